"""Task specs: the input fields, parameters and output of a task."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import InvalidParameters, JobError

# A tokenizer reads every character before it truncates: 5 MB of text cost seconds of CPU for 512 tokens.
MAX_TEXT_CHARACTERS = 1_000_000


class Parameters(BaseModel):
    """Base class of task parameters: an allowlist, because some of transformers' options can run code."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class InputField(Protocol):
    """A field of an input; a bare value of type `bare_type` may replace the whole input, None = never."""

    @property
    def name(self) -> str:
        """Key in the input object."""

    @property
    def help(self) -> str:
        """Description in one sentence."""

    @property
    def required(self) -> bool:
        """Whether every input needs the field."""

    @property
    def bare_type(self) -> type | None:
        """Type of a bare value that may replace the whole input; None = never."""

    def check(self, value: object) -> Any:
        """Return the value to store, ready for JSON; raises JobError if no model could answer it."""


@dataclass(frozen=True, slots=True)
class TextField:
    """A text field of an input."""

    name: str
    help: str
    required: bool = True
    bare_type: type | None = str

    def check(self, value: object) -> str:
        """Return the text to store; raises JobError if no model could answer it."""
        if not isinstance(value, str):
            raise JobError("not_text", f"{self.name} must be text, not {describe_type(value)}")
        if not value.strip():
            raise JobError("empty_text", f"{self.name} is empty; leave the row out or give it text")
        if len(value) > MAX_TEXT_CHARACTERS:
            size = f"{self.name} has {len(value):,} characters"
            raise JobError("text_too_long", f"{size}; at most {MAX_TEXT_CHARACTERS:,} are taken")
        if "\0" in value:
            raise JobError("invalid_text", f"{self.name} has a NUL character, which no database stores; remove it")
        if not value.isascii():
            _check_surrogates(self.name, value)
        return value


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task's description, shared by producer and worker.

    check_input: checks fields together, given the stored input and the batch's parameters; raises JobError.
    variant_pattern: pattern of further names for the task, which are kept as given.
    supports_stride: whether a long text can be read in overlapping windows.
    is_random: whether, given these parameters, equal inputs may get different outputs because tokens are sampled.
    """

    name: str
    aliases: tuple[str, ...]
    summary: str
    fields: tuple[InputField, ...]
    parameters: type[Parameters]
    output_description: str
    example_input: dict[str, Any]
    example_output: Any
    check_input: Callable[[Mapping[str, Any], Mapping[str, Any]], None] | None = None
    variant_pattern: str | None = None
    supports_stride: bool = False
    is_random: Callable[[Mapping[str, Any]], bool] = lambda _parameters: False

    def canonical_name(self, name: str) -> str | None:
        """Return the name under which the task is recorded; None if `name` means another task."""
        if name == self.name or name in self.aliases:
            return self.name
        return name if self.variant_pattern and re.fullmatch(self.variant_pattern, name) else None

    def normalise(self, raw: object, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the stored form of an input: an object of the task's fields.

        A bare value becomes the first field that accepts its type. Raises JobError with a stable code. The caller
        removes other keys first.
        """
        if not isinstance(raw, Mapping):
            raw = {self._bare_field_name(raw): raw}
        stored = {}
        for field in self.fields:
            value = raw.get(field.name)
            if value is not None:
                stored[field.name] = field.check(value)
            elif field.required:
                raise JobError("missing_field", f"{field.name} is missing; an input needs {self._required_names()}")
        if self.check_input is not None:
            self.check_input(stored, parameters or {})
        return stored

    def _bare_field_name(self, raw: object) -> str:
        if sum(field.required for field in self.fields) <= 1:
            for field in self.fields:
                if field.bare_type is not None and isinstance(raw, field.bare_type):
                    return field.name
        wanted = "an object" if sum(field.required for field in self.fields) > 1 else "text or an object"
        raise JobError("not_text", f"an input must be {wanted} with {self._required_names()}, not {describe_type(raw)}")

    def check_parameters(self, raw_parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Validate parameters; raises InvalidParameters that names each wrong one and the allowed values."""
        try:
            return self.parameters(**raw_parameters).model_dump(mode="json", exclude_unset=True)
        except ValidationError as error:
            problems = "; ".join(self._format_problem(problem) for problem in error.errors())
            raise InvalidParameters(problems) from None

    def _required_names(self) -> str:
        required = [field.name for field in self.fields if field.required]
        return " and ".join(required) or " or ".join(field.name for field in self.fields)

    def _format_problem(self, problem: Any) -> str:
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            return f"{self.name} has no parameter {name!r}; it takes: {', '.join(self.parameters.model_fields)}"
        return f"parameter {name!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def parse_json_list(value: object) -> object:
    """Parse text as a JSON list, for sources whose cells hold only text; return other values unchanged."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, list) else value


def _check_surrogates(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise JobError("invalid_text", f"{name} has half a surrogate pair; mend its encoding") from None


def describe_type(value: object) -> str:
    """Describe the type of a value for an error message."""
    names = {bool: "a boolean", str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
