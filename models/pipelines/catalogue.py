"""The catalogue merges the built-in pipelines with those of batchmill.toml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from models import operator_code, tasks, validation
from models.errors import SettingsError, UnknownPipeline, UsageError
from models.guards.definition import Guard
from models.pipelines import guard_checks
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.pipelines.pipeline import BUNDLED_PREFIX, Pipeline
from models.settings import Settings, config_file, settings_place
from models.tasks import ALIASES
from models.validation import MAX_NAME_CHARACTERS


class TaskUnavailable(SettingsError):
    """An entry's task can't be found or imported on this machine.

    is_missing: whether its code is not here, which is no fault of a machine that has no use for it.
    """

    def __init__(self, message: str, *, is_missing: bool) -> None:
        super().__init__(message)
        self.is_missing = is_missing


class Catalogue(Mapping[str, Pipeline]):
    """Built-in pipelines by name, extended and overridden by `[pipelines.NAME]` in batchmill.toml."""

    def __init__(
        self, pipelines: Mapping[str, Pipeline], unusable: Mapping[str, TaskUnavailable] | None = None
    ) -> None:
        self._pipelines = dict(pipelines)
        self.unusable: Mapping[str, TaskUnavailable] = unusable or {}  # entries whose task is not to be had here

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Build the catalogue from the settings; raises SettingsError that names the wrong entry and field.

        An entry whose task can't be found or imported on this machine is set aside, so that all others can be used.
        """
        pipelines = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}
        unusable = {}
        for name, entry in settings.pipelines.items():
            base = pipelines[name].model_dump(exclude_unset=True) if name in pipelines else {}
            if "model" in entry and "revision" not in entry:
                base.pop("revision", None)  # another model has other commits
            if isinstance(entry.get("guards"), Mapping):
                # A guard is replaced as a whole by one of its name; the others of a built-in entry stay.
                entry = {**entry, "guards": {**base.get("guards", {}), **entry["guards"]}}
            try:
                pipelines[name] = _build_pipeline(name, {**base, **entry})
            except TaskUnavailable as error:
                pipelines.pop(name, None)
                unusable[name] = error
        _check_own_tasks(settings.pipelines, pipelines)
        guard_checks.check(pipelines)
        return cls({name: pipeline.with_guard_pipelines(pipelines) for name, pipeline in pipelines.items()}, unusable)

    def __getitem__(self, name: str) -> Pipeline:
        try:
            return self._pipelines[name]
        except KeyError:
            if name in self.unusable:
                raise self.unusable[name] from None
            aliases = {alias: task for alias, task in ALIASES.items() if task in self._pipelines}
            raise UnknownPipeline(name, list(self._pipelines), aliases) from None

    def __contains__(self, name: object) -> bool:
        return name in self._pipelines

    def __iter__(self) -> Any:
        return iter(self._pipelines)

    def __len__(self) -> int:
        return len(self._pipelines)

    @property
    def sample_names(self) -> list[str]:
        """Names of the pipelines whose models ship with Batchmill."""
        return [name for name, pipeline in self.items() if pipeline.model.startswith(BUNDLED_PREFIX)]


def _build_pipeline(name: str, fields: dict[str, Any]) -> Pipeline:
    if isinstance(fields.get("task"), str):
        fields["task"] = _resolve_task(name, fields["task"])
    try:
        for key in ("model", "tokenizer", "adapter"):
            if isinstance(fields.get(key), str):
                fields[key] = _resolve_model(fields[key])
        if isinstance(folder := fields.get("offload_folder"), str) and folder.strip():
            fields["offload_folder"] = str((_base_folder() / Path(folder).expanduser()).resolve())
        if isinstance(fields.get("guards"), Mapping):
            guards = {str(guard): _build_guard(name, str(guard), value) for guard, value in fields["guards"].items()}
            fields["guards"] = guards
        _check_places(name, fields)
        return Pipeline(**{**fields, "name": name})
    except ValidationError as error:
        problems = validation.describe_problems(error, Pipeline)
        raise SettingsError(f"{settings_place()}[pipelines.{name}] {problems}") from None


def _resolve_task(name: str, task: str) -> str:
    try:
        return tasks.canonical_name(task)
    except UsageError as error:
        is_missing = not isinstance(error, SettingsError) or isinstance(error.__cause__, ModuleNotFoundError)
        problem = f"{settings_place()}[pipelines.{name}] task: {error}"
        raise TaskUnavailable(problem, is_missing=is_missing) from None


def _check_own_tasks(entries: Mapping[str, Mapping[str, Any]], pipelines: Mapping[str, Pipeline]) -> None:
    """Raise SettingsError if two entries refer to different tasks that have the same name."""
    references: dict[str, str] = {}
    for name, entry in entries.items():
        reference = str(entry.get("task"))
        if name not in pipelines or not operator_code.is_reference(reference):
            continue
        task = pipelines[name].task
        if references.setdefault(task, reference) != reference:
            raise SettingsError(
                f"{settings_place()}[pipelines.{name}] task: {reference} and {references[task]} are both {task}; "
                "name one otherwise"
            )


def _check_places(name: str, fields: Mapping[str, Any]) -> None:
    """Raise SettingsError for a parameter of the task that stands beside `parameters` instead of in it."""
    task = str(fields.get("task"))
    spec = tasks.find_spec_if_known(task)
    parameters = {} if spec is None else spec.parameters.model_fields
    for field in fields:
        if field in parameters and field not in Pipeline.model_fields:
            raise SettingsError(
                f"{settings_place()}[pipelines.{name}] {field} is a parameter of {spec.name if spec else task}; "
                f"put it into parameters = {{ {field} = … }}"
            )


def _build_guard(pipeline_name: str, name: str, fields: Any) -> Guard:
    place = f"{settings_place()}[pipelines.{pipeline_name}.guards.{name[:MAX_NAME_CHARACTERS]}]"
    if not isinstance(fields, Mapping):
        raise SettingsError(f"{place} must be a table with on, action and what to check")
    try:
        return Guard.model_validate(fields)
    except ValidationError as error:
        raise SettingsError(f"{place} {validation.describe_problems(error, Guard)}") from None


def _resolve_model(model: str) -> str:
    """Resolve a folder against the settings file that names it; return any other model name unchanged."""
    if not model.strip():
        return ""
    path = _base_folder() / Path(model).expanduser()
    return str(path.resolve()) if model.startswith((".", "/", "~")) or path.is_dir() else model


def _base_folder() -> Path:
    """The folder of the settings file, against which its paths are resolved."""
    file = config_file()
    return file.absolute().parent if file else Path.cwd()
