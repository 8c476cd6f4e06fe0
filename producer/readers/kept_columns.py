"""Metadata: the columns that are kept with a job and given back beside its result."""

from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from models.documents import to_json
from models.errors import JobError
from producer.readers.storable import UnreadableValue, is_storable

MAX_DEPTH = 64  # lists and objects in each other: whoever reads it has to come down again
MAX_JSON_CHARACTERS = 16_384  # characters of JSON: what is kept is there to join by, not a second input


def validate_passthrough(values: dict[str, Any]) -> dict[str, Any]:
    """The columns fit for JSON: moments as ISO 8601, decimals and UUIDs as text. Raises JobError."""
    fit = {column: _json_value(column, value, MAX_DEPTH) for column, value in values.items()}
    try:
        size = len(to_json(fit))
    except (ValueError, TypeError, RecursionError):
        raise JobError(
            "invalid_meta", f"has in {_join_names(values)} what is no JSON, to be kept; take another column"
        ) from None
    if size > MAX_JSON_CHARACTERS:
        raise JobError(
            "invalid_meta",
            f"has {size:,} characters in {_join_names(values)} to keep; at most {MAX_JSON_CHARACTERS:,} are",
        )
    return fit


def _json_value(column: str, value: object, levels_left: int) -> object:
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
        return _json_container(column, value, levels_left)
    if isinstance(value, UnreadableValue):
        raise JobError("invalid_meta", f"{column} {value.reason}")
    raise JobError("invalid_meta", f"{column} holds {type(value).__name__}, which JSON has not; take another column")


def _json_container(column: str, value: dict[Any, Any] | Sequence[Any], levels_left: int) -> object:
    if not levels_left:
        raise JobError("invalid_meta", f"{column} is nested deeper than {MAX_DEPTH} levels; take another column")
    if isinstance(value, dict):
        return {_json_key(column, key): _json_value(column, one, levels_left - 1) for key, one in value.items()}
    return [_json_value(column, one, levels_left - 1) for one in value]


def _json_key(column: str, key: object) -> str:
    if not isinstance(key, str) or not is_storable(key):
        raise JobError("invalid_meta", f"{column} has a key that is no text; take another column")
    return key


def _join_names(values: dict[str, Any]) -> str:
    return " and ".join(values)
