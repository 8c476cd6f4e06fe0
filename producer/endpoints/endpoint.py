"""What every endpoint has: the keys of its requests, and how they become parameters of a batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.errors import JobError
from models.tasks.fields import describe_type
from producer.endpoints.answer import Answer

# They change no answer, so lines may differ in them.
WITHOUT_EFFECT = frozenset(
    {"user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "store", "metadata", "service_tier"}
)
MODEL = "model"
MAX_QUOTED_CHARACTERS = 40  # of a key, in a message


class BodyError(JobError):
    """A request that can't be a job.

    param: the part of the request, such as `body.input`
    """

    def __init__(self, code: str, message: str, param: str | None) -> None:
        super().__init__(code, message)
        self.param = param


class Settings(NamedTuple):
    """What a request asks for besides its input.

    parameters: of the task
    options: of the response, which the batch keeps
    """

    parameters: dict[str, Any]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint.

    path: the url of its requests
    tasks: those that answer it; empty = any
    input_keys: the keys of a request that are its input; all others but the model are settings. None = all
    pipeline: the only one that answers it; None = the request names one
    read_input: returns the task's input of a request, raises BodyError
    read_settings: returns what its other keys ask for, of which none is null; raises BodyError
    write_body: returns the JSON of a response
    complete_parameters: returns the parameters of a batch's lines for a pipeline that has parameters already: first
        those of the pipeline, then those of the lines; raises BodyError
    """

    path: str
    tasks: tuple[str, ...]
    input_keys: frozenset[str] | None
    read_input: Callable[[Mapping[str, Any]], Any]
    read_settings: Callable[[Mapping[str, Any]], Settings]
    write_body: Callable[[Answer], str]
    pipeline: str | None = None
    complete_parameters: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]] = (
        lambda _of_pipeline, of_lines: dict(of_lines)
    )

    @property
    def input_param(self) -> str:
        """The part of a request that is the task's input."""
        return ".".join(["body", *(self.input_keys or ())])

    def takes_task(self, task: str) -> bool:
        """Whether a pipeline of this task answers it."""
        return not self.tasks or task in self.tasks

    def settings_of(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The keys of a request that must be the same on every line; null means that a key is left out."""
        if self.input_keys is None:
            value = body.get("parameters")
            return {} if value is None else {"parameters": value}
        return {
            key: value
            for key, value in body.items()
            if value is not None and key not in self.input_keys and key not in WITHOUT_EFFECT and key != MODEL
        }


def missing(key: str, message: str) -> BodyError:
    """The error of a request without a key that it needs."""
    return BodyError("missing_required_parameter", message, f"body.{key}")


def invalid(key: str, message: str) -> BodyError:
    """The error of a value that an endpoint does not take."""
    return BodyError("invalid_parameter", message, f"body.{key}")


def read_single_text(key: str, value: object) -> str:
    """The text of a key that has a text, or a list with one; raises BodyError."""
    if value is None:
        raise missing(key, f"has no body.{key}; give it a text")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        raise invalid(key, f"has {len(value):,} texts in body.{key}; write one line for each, with another custom_id")
    if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        raise invalid(key, f"has token numbers in body.{key}; give the text, which the pipeline's tokenizer reads")
    raise invalid(key, f"has {describe_type(value)} in body.{key}; it must be a text, or a list with one text")


def take_constants(settings: dict[str, Any], constants: Mapping[str, tuple[Any, ...]]) -> None:
    """Take out keys whose only values change nothing; raises BodyError for others, which no pipeline supports.

    constants: the values by key; empty = none
    """
    for key, values in constants.items():
        if key not in settings:
            continue
        value = settings.pop(key)
        if not any(type(value) is type(allowed) and value == allowed for allowed in values):
            advice = f"leave it out, or set it to {' or '.join(map(_show, values))}" if values else "leave it out"
            raise BodyError("unsupported_parameter", f"asks for {key}, which is not supported; {advice}", f"body.{key}")


def reject_rest(settings: Mapping[str, Any]) -> None:
    """Raise BodyError for a key that no endpoint knows."""
    for key in settings:
        name = key[:MAX_QUOTED_CHARACTERS]
        raise BodyError(
            "unknown_parameter", f"has an unknown parameter {name!r} in its body; leave it out", f"body.{name}"
        )


def _show(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
