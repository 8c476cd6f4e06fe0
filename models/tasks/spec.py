"""What a task takes and gives: its input fields, its parameters, its output."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import InvalidParameters, JobError

# A tokenizer reads every character before it cuts: 5 MB of text cost seconds of CPU for 512 tokens.
LONGEST_TEXT = 1_000_000


class Parameters(BaseModel):
    """The base of every task's parameters: an allowlist, since some of transformers' own can run code."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True, slots=True)
class TextField:
    """One text of an input."""

    name: str
    help: str
    required: bool = True

    def check(self, value: object) -> str:
        """The text as it will be stored; raises JobError when no model could answer it."""
        if not isinstance(value, str):
            raise JobError("not_text", f"{self.name} must be text, not {_kind(value)}")
        if not value.strip():
            raise JobError("empty_text", f"{self.name} is empty; leave the row out or give it text")
        if len(value) > LONGEST_TEXT:
            size = f"{self.name} has {len(value):,} characters"
            raise JobError("text_too_long", f"{size}; at most {LONGEST_TEXT:,} are taken")
        if "\0" in value:
            raise JobError("invalid_text", f"{self.name} has a NUL character, which no database stores; remove it")
        if not value.isascii():
            _check_surrogates(self.name, value)
        return value


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task: pure description, shared by the side that submits and the side that runs."""

    name: str
    aliases: tuple[str, ...]
    summary: str
    fields: tuple[TextField, ...]
    parameters: type[Parameters]
    output: str
    example_input: dict[str, Any]
    example_output: Any

    def normalise(self, raw: object) -> dict[str, Any]:
        """An input in its stored form: an object of the task's fields; a bare string stands for the first.

        Raises JobError with a stable code. Other keys are the caller's to take out first.
        """
        if isinstance(raw, str):
            raw = {self.fields[0].name: raw}
        if not isinstance(raw, Mapping):
            raise JobError("not_text", f"an input must be text or an object with {self._names()}, not {_kind(raw)}")
        stored = {}
        for field in self.fields:
            value = raw.get(field.name)
            if value is not None:
                stored[field.name] = field.check(value)
            elif field.required:
                raise JobError("missing_field", f"{field.name} is missing; an input needs {self._names()}")
        return stored

    def check_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given parameters, validated; raises InvalidParameters naming each that is wrong and what is allowed."""
        try:
            return self.parameters(**given).model_dump(mode="json", exclude_unset=True)
        except ValidationError as error:
            problems = "; ".join(self._sentence(problem) for problem in error.errors())
            raise InvalidParameters(problems) from None

    def _names(self) -> str:
        return " and ".join(field.name for field in self.fields if field.required)

    def _sentence(self, problem: Any) -> str:
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            return f"{self.name} has no parameter {name!r}; it takes: {', '.join(self.parameters.model_fields)}"
        return f"parameter {name!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _check_surrogates(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise JobError("invalid_text", f"{name} has half a surrogate pair; mend its encoding") from None


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
