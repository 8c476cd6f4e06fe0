"""Dotted names of what a result holds, such as `output.summary_text`, `output.0.label` or `passthrough.lang`.

A name begins with a column of the result. Any other name is that of a column which was kept with the source's jobs:
`lang` is `passthrough.lang`. Each further part is a key of an object, or the number of an element of a list. A list of
one element needs no number, because tasks that write text answer with a list of texts that usually has one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from producer.readers.storable import UnreadableValue

DOCUMENTS = ("output", "input", "passthrough")
SCALARS = ("custom_id", "position", "status", "error_code", "error_message", "truncated", "batch_id")
COLUMNS = (*DOCUMENTS, *SCALARS)

MISSING: Final[Any] = object()
KEPT_IN_PART = UnreadableValue("was kept only in part; submit it from its file")  # stands for all that an input had
MAX_NAMES, MAX_DEPTH = 40, 4  # that a message lists
# Keys below these are data, such as those of a kept JSON column or of a free-form answer, and messages show no data.
LISTED_KEYS = {"output": 2, "input": 1, "passthrough": 1}
MAX_DIGITS = 9  # of the number of an element


def find_value(record: Mapping[str, Any], name: str) -> Any:
    """The value of a name in a result's columns, or MISSING; a document that a result lacks is None there."""
    first, _, rest = name.partition(".")
    if first not in COLUMNS:
        return _find(record["passthrough"], name.split("."))
    value = record[first]
    if value is KEPT_IN_PART:
        return value
    if rest:
        return _find(value, rest.split("."))
    return MISSING if value is None and first in DOCUMENTS else value


def list_names(record: Mapping[str, Any]) -> list[str]:
    """The names that a result has, at most MAX_NAMES and without keys of data: outputs first, then inputs."""
    names: list[str] = []
    for column in DOCUMENTS:
        if record[column] is not None:
            _append_names(names, column, record[column], MAX_DEPTH, LISTED_KEYS[column])
    return [*names, *SCALARS][:MAX_NAMES]


def _find(value: Any, parts: Sequence[str]) -> Any:
    if not parts:
        return value
    if isinstance(value, list):
        if parts[0].isdecimal() and len(parts[0]) <= MAX_DIGITS and int(parts[0]) < len(value):
            return _find(value[int(parts[0])], parts[1:])
        return _find(value[0], parts) if len(value) == 1 else MISSING
    if isinstance(value, dict):
        for count in range(len(parts), 0, -1):  # a key may have dots itself
            key = ".".join(parts[:count])
            if key in value and (found := _find(value[key], parts[count:])) is not MISSING:
                return found
    return MISSING


def _append_names(names: list[str], name: str, value: Any, levels_left: int, keys_left: int) -> None:
    if isinstance(value, UnreadableValue):
        return
    if not levels_left or not keys_left or not isinstance(value, dict | list):
        names.append(name)
        return
    for part, item in _parts(value):
        if len(names) >= MAX_NAMES:
            return
        keys = keys_left - isinstance(value, dict)
        _append_names(names, f"{name}.{part}" if part else name, item, levels_left - 1, keys)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list) and len(value) == 1:
        yield "", value[0]
    elif isinstance(value, list):
        yield from ((str(number), item) for number, item in enumerate(value))
