"""The catalogue: pipelines by name, the built-in ones and the operator's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from models.errors import SettingsError, UnknownPipeline
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.pipelines.pipeline import BUNDLED_PREFIX, Pipeline
from models.settings import Settings, config_file


class Catalogue(Mapping[str, Pipeline]):
    """Pipelines by name: the built-in ones, added to or overridden by `[pipelines.NAME]` in batchmill.toml."""

    def __init__(self, pipelines: Mapping[str, Pipeline]) -> None:
        self._pipelines = dict(pipelines)

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """The catalogue in force; raises SettingsError naming the entry and field that is wrong."""
        pipelines = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}
        for name, entry in settings.pipelines.items():
            base = pipelines[name].model_dump(exclude_unset=True) if name in pipelines else {}
            if "model" in entry and "revision" not in entry:
                base.pop("revision", None)  # another model's commit says nothing about this one
            pipelines[name] = _build_pipeline(name, {**base, **entry})
        return cls(pipelines)

    def __getitem__(self, name: str) -> Pipeline:
        try:
            return self._pipelines[name]
        except KeyError:
            raise UnknownPipeline(name, list(self._pipelines)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._pipelines

    def __iter__(self) -> Any:
        return iter(self._pipelines)

    def __len__(self) -> int:
        return len(self._pipelines)

    @property
    def sample_names(self) -> list[str]:
        """The names of the pipelines whose models come with Batchmill."""
        return [name for name, pipeline in self.items() if pipeline.model.startswith(BUNDLED_PREFIX)]


def _build_pipeline(name: str, fields: dict[str, Any]) -> Pipeline:
    try:
        for key in ("model", "tokenizer"):
            if isinstance(fields.get(key), str):
                fields[key] = _resolve_model(fields[key])
        return Pipeline(**{**fields, "name": name})
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "entry"
        raise SettingsError(f"[pipelines.{name}] {field}: {problem['msg'].removeprefix('Value error, ')}") from None


def _resolve_model(model: str) -> str:
    """A folder as an absolute path, relative to the settings file that names it; anything else as it stands."""
    found = config_file()
    base = found.absolute().parent if found else Path.cwd()
    path = base / Path(model).expanduser()
    return str(path.resolve()) if model.startswith((".", "/", "~")) or path.is_dir() else model
