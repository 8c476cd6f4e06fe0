"""What an author's `decode` returned: checked that JSON holds it, and that its numbers are finite."""

import math
from collections.abc import Sequence
from typing import Any

from models.errors import JobError
from worker.adapters.own.task_errors import TaskErrors

MAX_RESULT_VALUES = 1_000_000
MAX_RESULT_CHARACTERS = 10_000_000
MAX_DEPTH = 100
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1  # of 64 bits, with a sign or without; others may have millions of digits


def check_result(result: Any, errors: TaskErrors) -> Any:
    """Return the result. Raises JobError if no database would store it."""
    values: list[tuple[Any, int]] = [(result, 0)]  # no recursion: a result may be nested deeper than Python's stack
    count = characters = 0
    while values:
        value, depth = values.pop()
        count += 1
        if isinstance(value, dict | list | tuple):
            if depth >= MAX_DEPTH:
                raise errors.wrong("decode", f"gave a result nested more than {MAX_DEPTH} deep")
            values += [(item, depth + 1) for item in _items(value, errors)]
        else:
            characters += _check_plain(value, errors)
        if len(values) + count > MAX_RESULT_VALUES or characters > MAX_RESULT_CHARACTERS:
            limits = f"{MAX_RESULT_VALUES:,} values or {MAX_RESULT_CHARACTERS:,} characters"
            raise JobError("output_too_large", f"the result has more than {limits}; let the task give less")
    return result


def _items(value: Any, errors: TaskErrors) -> Sequence[Any]:
    """The parts of an object or a list; the keys of an object count as texts."""
    if not isinstance(value, dict):
        return value
    if not all(isinstance(key, str) for key in value):
        raise errors.wrong("decode", "gave an object with a key that is no text")
    return (*value, *value.values())


def _check_plain(value: Any, errors: TaskErrors) -> int:
    """Return the characters of a text, 0 for another value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise JobError("invalid_output", "the model gave numbers that are not finite; try dtype float32")
    if isinstance(value, int) and not MIN_INTEGER <= value <= MAX_INTEGER:
        raise errors.wrong("decode", "gave a whole number of more than 64 bits; let it give that as text")
    if value is not None and not isinstance(value, bool | int | float):
        raise errors.wrong("decode", f"gave a {type(value).__name__}, which JSON can't hold")
    return 0
