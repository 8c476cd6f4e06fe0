"""Metadata: the columns that are kept with a job and given back beside its result."""

from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from models.documents import as_json
from models.errors import JobError
from producer.readers.storable import Unreadable, is_storable

DEEPEST = 64  # lists and objects in each other: whoever reads it has to come down again
LONGEST = 16_384  # characters of JSON: what is kept is there to join by, not a second input


def checked(kept: dict[str, Any]) -> dict[str, Any]:
    """The columns fit for JSON: moments as ISO 8601, decimals and UUIDs as text. Raises JobError."""
    fit = {column: _value(column, value, DEEPEST) for column, value in kept.items()}
    try:
        size = len(as_json(fit))
    except (ValueError, TypeError, RecursionError):
        raise JobError(
            "invalid_meta", f"has in {_named(kept)} what is no JSON, to be kept; take another column"
        ) from None
    if size > LONGEST:
        raise JobError("invalid_meta", f"has {size:,} characters in {_named(kept)} to keep; at most {LONGEST:,} are")
    return fit


def _value(column: str, value: object, deepest: int) -> object:
    # The frequent kinds first: this runs for every row.
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        if not is_storable(value):
            raise JobError("invalid_meta", f"{column} has a NUL character or half a surrogate pair; remove it")
        return value
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, (dict, list, tuple)):
        return _nested(column, value, deepest)
    if isinstance(value, Unreadable):
        raise JobError("invalid_meta", f"{column} {value.reason}")
    raise JobError("invalid_meta", f"{column} holds {type(value).__name__}, which JSON has not; take another column")


def _nested(column: str, value: dict[Any, Any] | Sequence[Any], deepest: int) -> object:
    if not deepest:
        raise JobError("invalid_meta", f"{column} is nested deeper than {DEEPEST} levels; take another column")
    if isinstance(value, dict):
        return {_key(column, key): _value(column, one, deepest - 1) for key, one in value.items()}
    return [_value(column, one, deepest - 1) for one in value]


def _key(column: str, key: object) -> str:
    if not isinstance(key, str) or not is_storable(key):
        raise JobError("invalid_meta", f"{column} has a key that is no text; take another column")
    return key


def _named(kept: dict[str, Any]) -> str:
    return " and ".join(kept)
