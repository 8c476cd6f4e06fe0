"""Any other text pipeline that transformers has, or that a package registers there: `task = "transformers:NAME"`.

Only workers have transformers, so they find out whether it has a pipeline of this name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any

from pydantic import ConfigDict, Field, create_model, model_validator
from pydantic_core import PydanticCustomError

from models.errors import JobError, UsageError
from models.tasks.fields import ShortText, TextField
from models.tasks.generic.json_values import JsonField
from models.tasks.spec import Parameters, TaskSpec

PREFIX = "transformers:"

# Names in transformers of tasks that have their own specs here.
OWN_TASKS = {
    "text-classification": "sentiment-analysis",
    "sentiment-analysis": "sentiment-analysis",
    "token-classification": "ner",
    "ner": "ner",
    "fill-mask": "fill-mask",
    "text-generation": "text-generation",
    "zero-shot-classification": "zero-shot-classification",
    "feature-extraction": "feature-extraction",
    "question-answering": "question-answering",
    "summarization": "summarization",
    "translation": "translation",
    "table-question-answering": "table-question-answering",
    "decision": "decision",
}

# Pipelines of transformers that read or give images, sound or video.
OTHER_MEDIA = frozenset(
    {
        "any-to-any",
        "audio-classification",
        "automatic-speech-recognition",
        "depth-estimation",
        "document-question-answering",
        "image-classification",
        "image-feature-extraction",
        "image-segmentation",
        "image-text-to-text",
        "image-to-image",
        "image-to-text",
        "keypoint-matching",
        "mask-generation",
        "object-detection",
        "text-to-audio",
        "text-to-speech",
        "video-classification",
        "visual-question-answering",
        "vqa",
        "zero-shot-audio-classification",
        "zero-shot-image-classification",
        "zero-shot-object-detection",
    }
)

PARAMETER_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Arguments of a pipeline that name models, files or code, or that the worker decides.
DENIED_NAMES = frozenset(
    {
        "args",
        "args_parser",
        "assistant_model",
        "assistant_tokenizer",
        "batch_size",
        "binary_output",
        "config",
        "custom_generate",
        "device",
        "device_map",
        "dtype",
        "feature_extractor",
        "framework",
        "generation_config",
        "image_processor",
        "inputs",
        "logits_processor",
        "model",
        "num_workers",
        "pipeline_class",
        "prefix_allowed_tokens_fn",
        "processor",
        "return_tensors",
        "revision",
        "self",
        "stopping_criteria",
        "streamer",
        "task",
        "token",
        "tokenizer",
        "torch_dtype",
        "trust_remote_code",
        "use_auth_token",
        "use_fast",
        "video_processor",
    }
)
DENIED_PARTS = ("path", "file", "folder", "kwargs", "processor")
MAX_NUMBER = 2**31 - 1
MAX_LIST = 1_000

Number = Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)] | Annotated[float, Field(allow_inf_nan=False)]
Scalar = bool | Number | ShortText | None
Value = Scalar | Annotated[list[Scalar], Field(max_length=MAX_LIST)]


def check_names(values: Any) -> Any:
    """Return the parameters; raises PydanticCustomError for one whose name is denied."""
    for name in values if isinstance(values, Mapping) else ():
        if is_denied(str(name)):
            problem = "{name} can't be set; a parameter has small letters, and names no code, file or way to load"
            raise PydanticCustomError("denied", problem, {"name": str(name)[:64]})
    return values


class PipelineParameters(Parameters):
    """The parameters of a pipeline that Batchmill does not know: values, and never a name of code or of a file."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Value]

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        for name in values if isinstance(values, Mapping) else ():
            if is_denied(str(name)):
                problem = (
                    "{name} can't be set: a parameter is a small-letter name, and never one of code, files or loading"
                )
                raise PydanticCustomError("denied", problem, {"name": str(name)[:64]})
        return values


def is_denied(name: str) -> bool:
    """Whether no batch and no catalogue entry may set a parameter of this name."""
    is_name = PARAMETER_NAME.fullmatch(name) is not None
    return not is_name or name in DENIED_NAMES or any(part in name for part in DENIED_PARTS)


def check_name(task: str) -> None:
    """Raise UsageError for `transformers:NAME` of a task with its own spec, of other media, and of the word NAME."""
    if not task.startswith(PREFIX):
        return
    name = task.removeprefix(PREFIX)
    own = OWN_TASKS.get("translation" if name.startswith("translation_") else name)
    if own is not None:
        raise UsageError(f"{task[:80]!r} has its own task in Batchmill; write {own!r}")
    if name in OTHER_MEDIA:
        raise UsageError(f"{task} is for images, sound or video, and Batchmill takes text; name another pipeline")
    if task == TRANSFORMERS_PIPELINE.name:
        raise UsageError("NAME stands for the name of a pipeline; write it, such as transformers:my-pipeline")


def with_entry(
    spec: TaskSpec, task: str, entry_parameters: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]
) -> TaskSpec:
    """The spec of one pipeline, with its first example.

    A batch may set the parameters of the catalogue entry, to values of the same type.
    """
    kinds = tuple((name, _kind(value)) for name, value in sorted(entry_parameters.items()) if not is_denied(name))
    example = dict(examples[0]) if examples else spec.example_input
    return replace(spec, name=task, parameters=_parameters_class(kinds), example_input=example)


@lru_cache(maxsize=256)
def _parameters_class(kinds: tuple[tuple[str, str], ...]) -> type[Parameters]:
    fields: dict[str, Any] = {
        name: (ANNOTATIONS[kind] | None, Field(default=None, description="As in the pipeline of transformers."))
        for name, kind in kinds
    }
    base: Any = _NamedParameters
    made: type[Parameters] = create_model("EntryParameters", __base__=base, **fields)
    return made


class _NamedParameters(Parameters):
    """As `PipelineParameters`, without names other than those of the fields."""

    _check_names = model_validator(mode="before")(check_names)


ANNOTATIONS: dict[str, Any] = {
    "bool": bool,
    "int": Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)],
    "float": Annotated[float, Field(allow_inf_nan=False)],
    "str": ShortText,
    "list": Annotated[list[Scalar], Field(max_length=MAX_LIST)],
    "other": Value,
}


def _kind(value: object) -> str:
    kind = type(value).__name__
    return kind if kind in ANNOTATIONS else "other"


def _check_one_form(stored: Mapping[str, Any], _parameters: Mapping[str, Any]) -> None:
    if len(stored) > 1:
        raise JobError("text_and_inputs", "an input has text or inputs, not both; leave one out")
    if not stored:
        raise JobError("missing_field", "text is missing; an input needs text or inputs")


TRANSFORMERS_PIPELINE = TaskSpec(
    name=f"{PREFIX}NAME",
    aliases=(),
    summary="Run the text pipeline NAME of transformers itself, slower than a task with its own adapter.",
    fields=(
        TextField("text", "The text that the pipeline reads.", required=False),
        JsonField("inputs", "In place of text: any JSON value that the pipeline takes.", required=False),
    ),
    parameters=PipelineParameters,
    output_description="what the pipeline returns for one input, as JSON",
    example_input={"text": "Works as described, quick delivery."},
    example_output={"label": "positive", "score": 0.9871},
    check_input=_check_one_form,
    variant_pattern=PREFIX + r"[a-z0-9][a-z0-9._-]{0,63}",
)
