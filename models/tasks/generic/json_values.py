"""JSON values in inputs: any value, bounded in size and depth, or an object; as JSON text from cells that hold text."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.errors import JobError
from models.tasks.fields import MAX_TEXT_CHARACTERS, describe_type, is_storable

MAX_DEPTH = 32  # of objects and lists in each other
MAX_VALUES = 100_000
MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class JsonField:
    """A field whose value is any JSON that the model's pipeline takes.

    parses_text: whether text that is a JSON object or list stands for it.
    """

    name: str
    help: str
    required: bool = True
    bare_type: type | None = None
    parses_text: bool = True

    def check(self, value: object) -> Any:
        """Return the value to store; raises JobError if it is blank, too large, or no JSON."""
        return check_json(self.name, parse_json(value) if self.parses_text else value)


def parse_json(value: object) -> object:
    """Parse text as a JSON object or list, for sources whose cells hold only text; return other values unchanged."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")) or len(value) > MAX_TEXT_CHARACTERS:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def check_json(name: str, value: object) -> Any:
    """Return a copy of a JSON value; raises JobError that names the field."""
    if value in ("", [], {}) or (isinstance(value, str) and not value.strip()):
        raise JobError("empty_text", f"{name} is empty; leave the row out or give it a value")
    characters = 0
    for count, leaf in enumerate(_walk(name, value), start=1):
        if count > MAX_VALUES:
            raise JobError("text_too_long", f"{name} has over {MAX_VALUES:,} values; at most that many are taken")
        characters += _check_leaf(name, leaf)
    if characters > MAX_TEXT_CHARACTERS:
        raise JobError(
            "text_too_long", f"{name} has {characters:,} characters in all; at most {MAX_TEXT_CHARACTERS:,} are taken"
        )
    return _copy(value)


def _walk(name: str, value: object) -> Iterator[object]:
    """Yield every scalar and key, without recursion into values that are nested too deep."""
    pending: list[tuple[object, int]] = [(value, 0)]
    while pending:
        current, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise JobError("invalid_field", f"{name} is nested more than {MAX_DEPTH} deep; make it flatter")
        if isinstance(current, Mapping):
            yield from current.keys()
            pending.extend((inner, depth + 1) for inner in current.values())
        elif isinstance(current, list | tuple):
            yield None  # so that empty lists count too
            pending.extend((inner, depth + 1) for inner in current)
        else:
            yield current


def _check_leaf(name: str, leaf: object) -> int:
    """The characters of a scalar or key; raises JobError if no database stores it."""
    if isinstance(leaf, str):
        if not is_storable(leaf):
            raise JobError("invalid_text", f"{name} has a NUL character or half a surrogate pair; mend its encoding")
        return len(leaf)
    if leaf is None or isinstance(leaf, bool):
        return 0
    if isinstance(leaf, int):
        if abs(leaf) > MAX_INTEGER:
            raise JobError("invalid_field", f"{name} has a whole number of over 64 bits; write it as text")
        return 0
    if isinstance(leaf, float):
        if leaf != leaf or abs(leaf) == float("inf"):
            raise JobError("invalid_field", f"{name} has a number that is not finite; write null, or leave it out")
        return 0
    raise JobError("invalid_field", f"{name} must be JSON, and has a value of type {describe_type(leaf)}; convert it")


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list | tuple) else value
