"""Passthrough columns are kept with a job, and returned with its result."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from models.documents import to_json
from models.errors import JobError
from producer.readers.storable import UnreadableValue, is_storable

MAX_DEPTH = 64  # nested lists and objects: readers of the result must be able to parse them
MAX_NAMES_SHOWN = 5
MAX_JSON_CHARACTERS = 16_384  # passthrough columns are for joins, and not a second input


def validate_passthrough(values: dict[str, Any]) -> dict[str, Any]:
    """The columns as JSON values: times as ISO 8601, decimals and UUIDs as text. Raises JobError."""
    for column in values:
        if not isinstance(column, str) or not is_storable(column):
            raise _error("has a column to keep whose name is not storable text; rename it")
    passthrough = {column: _json_value(column, value, MAX_DEPTH) for column, value in values.items()}
    try:
        size = len(to_json(passthrough))
    except (ValueError, TypeError, RecursionError):
        names = _join_names(column for column, value in passthrough.items() if not _fits_json(value))
        raise _error(f"has a value in {names} that JSON can't hold; keep other columns") from None
    if size > MAX_JSON_CHARACTERS:
        raise _error(
            f"has {size:,} characters in {_join_names(values)} to keep; at most {MAX_JSON_CHARACTERS:,} are kept"
        )
    return passthrough


def keep_valid(values: dict[str, Any]) -> dict[str, Any]:
    """The columns of an invalid row, with null in place of each that can't be kept, and without unstorable names."""
    kept: dict[str, Any] = {}
    size = 0
    for column, value in values.items():
        if not isinstance(column, str) or not is_storable(column):
            continue
        document: dict[str, Any] = {column: None}
        with suppress(JobError):
            document = validate_passthrough({column: value})
        if size + len(to_json(document)) > MAX_JSON_CHARACTERS:
            document = {column: None}
        size += len(to_json(document))
        if size > MAX_JSON_CHARACTERS:
            break
        kept |= document
    return kept


def _join_names(columns: Iterable[str]) -> str:
    names = list(columns)
    return " and ".join(names) if len(names) <= MAX_NAMES_SHOWN else f"{len(names):,} columns"


def _fits_json(value: object) -> bool:
    try:
        to_json(value)
    except (ValueError, TypeError, RecursionError):
        return False
    return True


def _json_value(column: str, value: object, levels_left: int) -> object:
    # The frequent types first: this runs for every row.
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        if not is_storable(value):
            raise _error(f"{column} has a NUL character or half a surrogate pair; remove it")
        return value
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, (dict, list, tuple)):
        return _json_container(column, value, levels_left)
    if isinstance(value, UnreadableValue):
        raise _error(f"{column} {value.reason}")
    raise _error(f"{column} holds {type(value).__name__}, which JSON has not; keep other columns")


def _json_container(column: str, value: dict[Any, Any] | Sequence[Any], levels_left: int) -> object:
    if not levels_left:
        raise _error(f"{column} is nested deeper than {MAX_DEPTH} levels; keep other columns")
    if isinstance(value, dict):
        return {_json_key(column, key): _json_value(column, item, levels_left - 1) for key, item in value.items()}
    return [_json_value(column, item, levels_left - 1) for item in value]


def _json_key(column: str, key: object) -> str:
    if not isinstance(key, str) or not is_storable(key):
        raise _error(f"{column} has a key that is not text; keep other columns")
    return key


def _error(message: str) -> JobError:
    return JobError("invalid_passthrough", message)
