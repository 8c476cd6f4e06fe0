"""An entry of the catalogue as the operator writes it: its keys, what each means, and which values it takes."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models import operator_code, tasks
from models.errors import UsageError
from models.guards.definition import GUARD_NAME, MAX_GUARDS, Guard
from models.hardware.device_names import DEVICE_PATTERN
from models.pipelines.options import placement
from models.pipelines.options.generation_limits import GenerationLimits
from models.pipelines.options.placement import DeviceMap
from models.pipelines.options.quantization import Quantization
from models.pipelines.options.text_template import TextTemplate
from models.tasks.spec import WindowAggregation

MAX_LOGITS_PROCESSORS = 16
MAX_EXAMPLES = 16


class CatalogueEntry(BaseModel):
    """The keys of `[pipelines.NAME]`, each checked by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str
    task: str
    model: str = Field(min_length=1, description="A Hub id, a folder, or bundled:NAME for a sample of Batchmill's own.")
    revision: str | None = Field(default=None, description="A commit of the Hub; unset: resolved once for each batch.")
    tokenizer: str | None = Field(default=None, description="Unset: the model's own, of the same revision.")
    tokenizer_revision: str | None = None
    adapter: str | None = Field(
        default=None, min_length=1, description="A LoRA adapter on top of the model: a Hub id, or a folder."
    )
    adapter_revision: str | None = Field(
        default=None, description="A commit of the Hub, which an adapter of the Hub must have; a folder has its hash."
    )
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
    device_map: DeviceMap | None = Field(
        default=None,
        description="For a model larger than one device: how its weights are spread over the GPUs of a process, the "
        "machine's memory and disk.",
    )
    max_memory: dict[str, str] | None = Field(
        default=None, description="With device_map: the most bytes of weights on each device, such as 20GiB."
    )
    offload_folder: str | None = Field(
        default=None, min_length=1, description="With device_map: where weights on disk are kept; unset: under home."
    )
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
    logits_processors: tuple[str, ...] = Field(
        default=(),
        max_length=MAX_LOGITS_PROCESSORS,
        description="Tasks that generate text: your own code that changes the scores of each next token, as "
        "package.module:object, in the order in which it runs.",
    )
    registered_by: str | None = Field(
        default=None,
        description="transformers:NAME: operator code whose import registers the pipeline, as package.module:object.",
    )
    examples: tuple[dict[str, Any], ...] = Field(
        default=(),
        max_length=MAX_EXAMPLES,
        description="transformers:NAME: inputs of several lengths, with which the pipeline is tried when it is loaded.",
    )
    limits: GenerationLimits | None = Field(
        default=None, description="What one row of text-generation may cost; see GenerationLimits for the defaults."
    )
    licence: str | None = Field(default=None, description="Under which the model is given, as far as is known.")
    description: str = ""

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

    @field_validator("logits_processors", "registered_by")
    @classmethod
    def _check_references(cls, value: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        for reference in (value,) if isinstance(value, str) else value or ():
            if not operator_code.is_reference(reference):
                raise ValueError(f"has {reference[:80]!r}, which names no object; write it as package.module:object")
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

    @field_validator("max_memory")
    @classmethod
    def _check_max_memory(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        if value is not None:
            placement.parse_max_memory(value)
        return value
