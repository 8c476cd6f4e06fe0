"""A pipeline: a task with its exact model, revision, load options and limits."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from models import tasks
from models.errors import InvalidParameters, UsageError
from models.guards.definition import GUARD_NAME, MAX_GUARDS, Guard
from models.hardware.device_names import DEVICE_PATTERN
from models.pipelines import prompt_template
from models.pipelines.generation_limits import GenerationLimits
from models.pipelines.prompt_template import PROMPT, SYSTEM, PromptTemplate
from models.pipelines.quantization import Quantization
from models.pipelines.text_template import TextTemplate
from models.tasks.generic import transformers_pipeline
from models.tasks.generic.transformers_pipeline import TRANSFORMERS_PIPELINE
from models.tasks.own.own_spec import OwnTaskSpec
from models.tasks.spec import TaskSpec, WindowAggregation
from models.tasks.text_generation import TEXT_GENERATION

BUNDLED_PREFIX = "bundled:"
HASH_DIGITS = 16
# A batch records the templates, so workers take them from there.
NOT_HASHED = {"name", "parameters", "prompt", "system", "max_attempts", "licence", "description"}
SAMPLES_FOLDER = Path(__file__).resolve().parents[1] / "samples"


class Pipeline(BaseModel):
    """An entry of the catalogue."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str
    task: str
    model: str = Field(min_length=1, description="A Hub id, a folder, or bundled:NAME for a sample of Batchmill's own.")
    revision: str | None = Field(default=None, description="A commit of the Hub; unset: resolved once for each batch.")
    tokenizer: str | None = Field(default=None, description="Unset: the model's own, of the same revision.")
    tokenizer_revision: str | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="auto: float32 on a CPU, the checkpoint's own elsewhere."
    )
    quantization: Quantization | None = Field(
        default=None, description="int8 on a CPU by torch itself; the others by the extra `quantization`."
    )
    attention: Literal["eager", "sdpa", "flash_attention_2", "flex_attention"] | None = Field(
        default=None, description="How attention is computed; unset: transformers' own choice for the model."
    )
    device: str = Field(default="auto", pattern=DEVICE_PATTERN, examples=["auto", "cpu", "mps", "cuda", "cuda:1"])
    truncation: Literal["truncate", "error", "stride"] = Field(
        default="truncate",
        description="What happens to a text past max_length: cut (and marked so in its result), failed, or read in "
        "overlapping windows where the task can.",
    )
    stride: int | None = Field(default=None, ge=0, description="Tokens that neighbouring windows share.")
    window_aggregation: WindowAggregation | None = Field(
        default=None,
        description="How the scores of a text's windows become one; unset: mean, for text-ranking max. weighted: a "
        "mean by tokens.",
    )
    deterministic: bool = Field(
        default=False, description="The same bits regardless of batching, at some cost in speed."
    )
    max_length: int | None = Field(default=None, ge=1, description="In tokens; unset: what the model takes.")
    tokens_per_batch: int | None = Field(default=None, ge=1, description="Padded tokens in one micro-batch.")
    max_attempts: int | None = Field(
        default=None, ge=3, le=100, description="Tries of one job until it is a dead letter; unset: the setting's."
    )
    pass_seconds: float | None = Field(
        default=None, gt=0, description="How long one micro-batch may take; unset: the setting's."
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="The task's parameters where a batch does not give its own."
    )
    prompt: str | None = Field(
        default=None,
        description="The text that the model reads, with names of a row's fields in braces; unset: the field text.",
    )
    system: str | None = Field(
        default=None,
        description="text-generation: the system message before each prompt or conversation, with names as in prompt.",
    )
    guards: dict[str, Guard] = Field(
        default_factory=dict, description="Checks of inputs and outputs by name, in the order in which they run."
    )
    limits: GenerationLimits | None = Field(
        default=None, description="What one row of text-generation may cost; see GenerationLimits for the defaults."
    )
    licence: str | None = Field(default=None, description="Under which the model is given, as far as is known.")
    description: str = ""

    _guard_pipelines: dict[str, "Pipeline"] = PrivateAttr(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", value):
            raise ValueError("must have small letters, digits, '.', '_' and '-', at most 63, and no sign first")
        return value

    @field_validator("task")
    @classmethod
    def _check_task(cls, value: str) -> str:
        try:
            return tasks.canonical_name(value)
        except UsageError as error:
            raise ValueError(str(error)) from None

    @field_validator("prompt", "system")
    @classmethod
    def _check_template(cls, value: str | None) -> str | None:
        if value is not None:
            TextTemplate.parse(value)
        return value

    @field_validator("guards")
    @classmethod
    def _check_guard_names(cls, value: dict[str, Guard]) -> dict[str, Guard]:
        if len(value) > MAX_GUARDS:
            raise ValueError(f"has {len(value)} guards; at most {MAX_GUARDS} are taken")
        for name in value:
            if not GUARD_NAME.fullmatch(name):
                raise ValueError(
                    f"has a guard {name[:40]!r}; a name has small letters, digits, '_' and '-', at most 32, "
                    "and no sign first"
                )
        return value

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        for name in ("stride", "window_aggregation"):
            if getattr(self, name) is not None and self.truncation != "stride":
                raise ValueError(f'{name} has no effect without truncation = "stride"; set it, or leave {name} out')
        if self.truncation == "stride" and not self.spec.supports_stride:
            raise ValueError(f"{self.task} can't read a text in windows; set truncation to truncate or error")
        if self.window_aggregation is not None and not self.spec.aggregates_windows:
            raise ValueError(f"{self.task} does not aggregate the scores of windows; leave window_aggregation out")
        return self

    @model_validator(mode="after")
    def _check_task_options(self) -> Self:
        if self.tokenizer_revision is not None and self.tokenizer is None:
            raise ValueError("tokenizer_revision has no effect without tokenizer; set it, or leave the revision out")
        if self.limits is not None and self.generation_limits is None:
            raise ValueError(f"{self.task} has no limits, which are for text-generation; leave them out")
        if self.template is not None:
            self.template.check_task(tasks.find_spec(self.task))
        try:
            self.check_parameters(self.parameters)
        except InvalidParameters as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def settings_hash(self) -> str:
        """A hash of what a worker takes from this entry; folders count by their names, which machines share."""
        fields = self.model_dump(exclude=NOT_HASHED)
        if self.guards:
            # Guards run in their order.
            fields["guards"] = list(fields["guards"].items())
            fields["guard_pipelines"] = {
                name: (entry.settings_hash, entry.parameters) for name, entry in self.guard_pipelines.items()
            }
        else:
            del fields["guards"]
        if code := self.operator_code:
            fields["operator_code"] = code
        for key in ("model", "tokenizer"):
            if _model_folder(fields[key] or "") is not None:
                fields[key] = Path(fields[key]).name
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:HASH_DIGITS]

    @property
    def operator_code(self) -> dict[str, str]:
        """The versions of the operator's own code that computes its outputs, by the field that names it."""
        spec = tasks.find_spec(self.task)
        return {"task": spec.code_version} if isinstance(spec, OwnTaskSpec) else {}

    @property
    def guard_pipelines(self) -> Mapping[str, "Pipeline"]:
        """The catalogue's pipelines that its guards name; the catalogue sets them."""
        return self._guard_pipelines

    def with_guard_pipelines(self, catalogue: Mapping[str, "Pipeline"]) -> "Pipeline":
        """Return the same pipeline with those of the catalogue's pipelines that its guards name."""
        guarded = self.model_copy()
        guarded._guard_pipelines = {
            guard.pipeline: catalogue[guard.pipeline]
            for guard in self.guards.values()
            if guard.pipeline is not None and guard.pipeline in catalogue
        }
        return guarded

    @property
    def spec(self) -> TaskSpec:
        """Spec of the pipeline's task, with its limits, whose inputs have the fields that the templates name."""
        spec = tasks.find_spec(self.task)
        if spec is TRANSFORMERS_PIPELINE:
            spec = transformers_pipeline.with_parameters(spec, self.task, self.parameters)
        if (limits := self.generation_limits) is not None:
            spec = replace(spec, check_input=limits.limit_input(spec.check_input))
        return spec if self.template is None else self.template.spec_for(spec)

    @property
    def effective_window_aggregation(self) -> WindowAggregation:
        """How the scores of a text's windows become one: its own choice, or else that of its task."""
        return self.window_aggregation or tasks.find_spec(self.task).default_window_aggregation

    @property
    def generation_limits(self) -> GenerationLimits | None:
        """The limits in force; None for tasks other than text-generation."""
        if tasks.find_spec(self.task) is not TEXT_GENERATION:
            return None
        return self.limits or GenerationLimits()

    def check_parameters(self, raw_parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Validate parameters as `TaskSpec.check_parameters` does, and against the limits."""
        parameters = self.spec.check_parameters(raw_parameters)
        if (limits := self.generation_limits) is not None:
            limits.check_parameters(parameters, self.name)
        return parameters

    @property
    def template(self) -> PromptTemplate | None:
        """The parsed `prompt` and `system`; None without them."""
        return prompt_template.parse_templates(self.prompt, self.system)

    @property
    def template_parameters(self) -> dict[str, str]:
        """The templates as the parameters of a batch record them; empty without any."""
        return {} if self.template is None else self.template.parameters

    def with_templates(self, parameters: Mapping[str, Any]) -> Self:
        """The pipeline with the templates that a batch's parameters record, instead of those of the catalogue."""
        return self.model_copy(update={name: parameters.get(name) for name in (PROMPT, SYSTEM)})

    @property
    def folder(self) -> Path | None:
        """Absolute path of the model's folder; None for a Hub id."""
        return _model_folder(self.model)

    @property
    def tokenizer_folder(self) -> Path | None:
        """Absolute path of the tokenizer's folder; None for a Hub id or if the entry names no tokenizer."""
        return _model_folder(self.tokenizer or "")


def _model_folder(name: str) -> Path | None:
    if name.startswith(BUNDLED_PREFIX):
        return SAMPLES_FOLDER / name.removeprefix(BUNDLED_PREFIX)
    return Path(name) if Path(name).is_absolute() else None
