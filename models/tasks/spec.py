"""What a task takes and gives: its input fields, its parameters, its output."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import InvalidParameters, JobError

# A tokenizer reads every character before it cuts: 5 MB of text cost seconds of CPU for 512 tokens.
MAX_TEXT_CHARACTERS = 1_000_000


class Parameters(BaseModel):
    """The base of every task's parameters: an allowlist, since some of transformers' own can run code."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class InputField(Protocol):
    """One part of an input. A value of the type `bare` may stand for the whole input; None: no value may."""

    @property
    def name(self) -> str:
        """The key in an input's object."""

    @property
    def help(self) -> str:
        """What it is, in a sentence."""

    @property
    def required(self) -> bool:
        """Whether an input must have it."""

    @property
    def bare_type(self) -> type | None:
        """See above."""

    def check(self, value: object) -> Any:
        """The value as it will be stored, fit for JSON; raises JobError when no model could answer it."""


@dataclass(frozen=True, slots=True)
class TextField:
    """One text of an input."""

    name: str
    help: str
    required: bool = True
    bare_type: type | None = str

    def check(self, value: object) -> str:
        """The text as it will be stored; raises JobError when no model could answer it."""
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
    """One task: pure description, shared by the side that submits and the side that runs.

    `complete` checks what no field can tell alone, given the input as it will be stored and the batch's parameters; it
    raises JobError. `variants` is a pattern of further names that stand for the task and are kept as they are.
    `strides` says whether a long text can be read in overlapping windows. `draws` says of a batch's parameters whether
    equal inputs may get different outputs, since tokens are drawn by chance.
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
        """The name under which the task is recorded when it is asked for by this one; None when it is not meant."""
        if name == self.name or name in self.aliases:
            return self.name
        return name if self.variant_pattern and re.fullmatch(self.variant_pattern, name) else None

    def normalise(self, raw: object, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """An input in its stored form: an object of the task's fields; a bare value stands for the first that takes it.

        Raises JobError with a stable code. Other keys are the caller's to take out first.
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
        """The given parameters, validated; raises InvalidParameters naming each that is wrong and what is allowed."""
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
    """The list that a text has as JSON, as where a cell can hold nothing but text; any other value as it is."""
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
    """What a value is, for a sentence."""
    names = {bool: "a boolean", str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
