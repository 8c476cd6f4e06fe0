"""The catalogue: named pipelines, each a task with its exact model, revision, load options and limits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models import tasks
from models.errors import InvalidParameters, SettingsError, UnknownPipeline, UsageError
from models.settings import Settings, config_file
from models.tasks.spec import TaskSpec

BUNDLED = "bundled:"
SAMPLES = Path(__file__).resolve().parent / "samples"


class Pipeline(BaseModel):
    """One entry of the catalogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    task: str
    model: str = Field(min_length=1, description="A Hub id, a folder, or bundled:NAME for a sample of Batchmill's own.")
    revision: str | None = Field(default=None, description="A commit of the Hub; unset: resolved once for each batch.")
    tokenizer: str | None = Field(default=None, description="Unset: the model's own, of the same revision.")
    tokenizer_revision: str | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="auto: float32 on a CPU, the checkpoint's own elsewhere."
    )
    quantization: Literal["int8", "int4"] | None = Field(
        default=None, description="int8 on a CPU by torch itself; int8 and int4 on CUDA by the extra `quantization`."
    )
    attention: Literal["eager", "sdpa", "flash_attention_2", "flex_attention"] | None = Field(
        default=None, description="How attention is computed; unset: transformers' own choice for the model."
    )
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    truncation: Literal["truncate", "error", "stride"] = Field(
        default="truncate",
        description="What happens to a text past max_length: cut (and marked so in its result), failed, or read in "
        "overlapping windows where the task can.",
    )
    stride: int | None = Field(default=None, ge=0, description="Tokens that neighbouring windows share.")
    deterministic: bool = Field(default=False, description="The same bits in any company, at some cost in speed.")
    max_length: int | None = Field(default=None, ge=1, description="In tokens; unset: what the model takes.")
    tokens_per_batch: int | None = Field(default=None, ge=1, description="Padded tokens in one micro-batch.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="The task's parameters where a batch does not give its own."
    )
    description: str = ""

    @field_validator("task")
    @classmethod
    def _task_exists(cls, value: str) -> str:
        try:
            return tasks.find(value).canonical(value) or value
        except UsageError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _task_allows(self) -> Self:
        if self.truncation == "stride" and not self.spec.strides:
            raise ValueError(f"{self.task} can't read a text in windows; set truncation to truncate or error")
        try:
            self.spec.check_parameters(self.parameters)
        except InvalidParameters as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def spec(self) -> TaskSpec:
        """The task's spec."""
        return tasks.find(self.task)

    @property
    def folder(self) -> Path | None:
        """Where the model lies when it is a folder (absolute, or bundled), else None: then it is a Hub id."""
        return _folder(self.model)

    @property
    def tokenizer_folder(self) -> Path | None:
        """The same for the tokenizer, where the entry names one."""
        return _folder(self.tokenizer or "")


BUILT_IN = (
    Pipeline(
        name="sentiment-analysis",
        task="sentiment-analysis",
        model="distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        # transformers' own default for the task (its short form is in transformers.pipelines.SUPPORTED_TASKS).
        revision="714eb0fa89d2f80546fda750413ed43d93601a13",
        description="English reviews, POSITIVE or NEGATIVE; Apache-2.0, 67 M parameters, 512 tokens.",
    ),
    Pipeline(
        name="sample-sentiment-analysis",
        task="sentiment-analysis",
        model="bundled:sentiment-analysis",
        description="A tiny classifier that comes with Batchmill, to try things out without the Hub.",
    ),
)


class Catalogue(Mapping[str, Pipeline]):
    """Pipelines by name: the built-in ones, added to or overridden by `[pipelines.NAME]` in batchmill.toml."""

    def __init__(self, pipelines: Mapping[str, Pipeline]) -> None:
        self._pipelines = dict(pipelines)

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """The catalogue in force; raises SettingsError naming the entry and field that is wrong."""
        pipelines = {pipeline.name: pipeline for pipeline in BUILT_IN}
        for name, entry in settings.pipelines.items():
            base = pipelines[name].model_dump(exclude_unset=True) if name in pipelines else {}
            if "model" in entry and "revision" not in entry:
                base.pop("revision", None)  # another model's commit says nothing about this one
            pipelines[name] = _entry(name, {**base, **entry})
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
    def samples(self) -> list[str]:
        """The names of the pipelines whose models come with Batchmill."""
        return [name for name, pipeline in self.items() if pipeline.model.startswith(BUNDLED)]


def _entry(name: str, fields: dict[str, Any]) -> Pipeline:
    try:
        for key in ("model", "tokenizer"):
            if isinstance(fields.get(key), str):
                fields[key] = _located(fields[key])
        return Pipeline(**{**fields, "name": name})
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "entry"
        raise SettingsError(f"[pipelines.{name}] {field}: {problem['msg']}") from None


def _folder(name: str) -> Path | None:
    if name.startswith(BUNDLED):
        return SAMPLES / name.removeprefix(BUNDLED)
    return Path(name) if Path(name).is_absolute() else None


def _located(model: str) -> str:
    """A folder as an absolute path, relative to the settings file that names it; anything else as it stands."""
    found = config_file()
    base = found.absolute().parent if found else Path.cwd()
    path = base / Path(model).expanduser()
    return str(path.resolve()) if model.startswith((".", "/", "~")) or path.is_dir() else model
