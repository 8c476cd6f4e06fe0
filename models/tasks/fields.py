"""Fields of an input, and checks on the texts in fields and parameters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

from models.errors import JobError

# A tokenizer reads every character before it truncates: 5 MB of text cost seconds of CPU for 512 tokens.
MAX_TEXT_CHARACTERS = 1_000_000
MAX_SHORT_TEXT_CHARACTERS = 1_000  # a label is a few words, a template a sentence
MAX_MESSAGES = 1_000
ROLES = ("system", "developer", "user", "assistant", "tool")

# Columns of exported results, which name them.
EXPORTED_NAMES = frozenset(
    {"position", "custom_id", "id", "batch_id", "status", "output", "error_code", "error_message", "truncated"}
    | {"windows", "guards", "original_input", "model", "revision", "dtype", "device", "attempts", "finished_at"}
    | {"scheduled_at", "source_batch_id", "source_position", "input_tokens", "output_tokens", "finish_reason"}
)


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
    allows_blank: bool = False

    def check(self, value: object) -> str:
        """Return the text to store; raises JobError if no model could answer it."""
        if not isinstance(value, str):
            raise JobError("not_text", f"{self.name} must be text, not {describe_type(value)}")
        if not self.allows_blank and not value.strip():
            raise JobError("empty_text", f"{self.name} is empty; leave the row out or give it text")
        if len(value) > MAX_TEXT_CHARACTERS:
            size = f"{self.name} has {len(value):,} characters"
            raise JobError("text_too_long", f"{size}; at most {MAX_TEXT_CHARACTERS:,} are taken")
        if "\0" in value:
            raise JobError("invalid_text", f"{self.name} has a NUL character, which no database stores; remove it")
        if not is_storable(value):
            raise JobError("invalid_text", f"{self.name} has half a surrogate pair; mend its encoding")
        return value


@dataclass(frozen=True, slots=True)
class MessagesField:
    """A list of messages with `role` and `content`, joined by the model's chat template."""

    name: str
    help: str
    required: bool = True
    bare_type: type | None = list

    def check(self, value: object) -> list[dict[str, str]]:
        """Return the messages to store; raises JobError if no model could answer them."""
        value = parse_json_list(value)
        if not isinstance(value, list):
            raise JobError("invalid_messages", f"{self.name} must be a list of messages, not {describe_type(value)}")
        if not 1 <= len(value) <= MAX_MESSAGES:
            raise JobError(
                "invalid_messages", f"{self.name} has {len(value):,} messages; give from 1 to {MAX_MESSAGES:,}"
            )
        messages = [self._check_message(message, f"{self.name}[{place}]") for place, message in enumerate(value)]
        size = sum(len(message["content"]) for message in messages)
        if size > MAX_TEXT_CHARACTERS:
            problem = f"{self.name} has {size:,} characters in all"
            raise JobError("text_too_long", f"{problem}; at most {MAX_TEXT_CHARACTERS:,} are taken")
        if not any(message["content"].strip() for message in messages):
            raise JobError("empty_text", f"no message in {self.name} says anything; leave the row out or give it text")
        return messages

    def _check_message(self, message: object, path: str) -> dict[str, str]:
        if not isinstance(message, Mapping):
            raise JobError(
                "invalid_messages", f"{path} must be an object with role and content, not {describe_type(message)}"
            )
        # Other keys (tool calls, images) would be dropped silently.
        if set(message) != {"role", "content"}:
            raise JobError("invalid_messages", f"{path} must have role and content, and nothing else")
        if message["role"] not in ROLES:
            raise JobError("invalid_messages", f"{path}.role must be one of {', '.join(ROLES)}")
        content = message["content"]
        # An empty content is common where the answer starts, and needs no check.
        if not isinstance(content, str) or content.strip():
            content = TextField(f"{path}.content", "").check(content)
        return {"role": message["role"], "content": content}


def parse_json_list(value: object) -> object:
    """Parse text as a JSON list, for sources whose cells hold only text; return other values unchanged."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return parsed if isinstance(parsed, list) else value


def describe_type(value: object) -> str:
    """Describe the type of a value for an error message."""
    names = {bool: "a boolean", str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def is_storable(value: str) -> bool:
    """Return False for text with a NUL character or half a surrogate pair, which no database stores."""
    try:
        return "\0" not in value and (value.isascii() or bool(value.encode()))
    except UnicodeEncodeError:
        return False


def _check_storable(value: str) -> str:
    if not is_storable(value):
        raise PydanticCustomError("word", "it has a NUL character or half a surrogate pair, which no database stores")
    return value


ShortText = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_SHORT_TEXT_CHARACTERS), AfterValidator(_check_storable)
]
