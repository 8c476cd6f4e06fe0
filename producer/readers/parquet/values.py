"""Values of Arrow's columns, as Python has them; one that Python can't hold is an UnreadableValue."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from producer.readers.limits import MAX_ROW_BYTES
from producer.readers.parquet.decompression import BrokenBlock
from producer.readers.parquet.large_pages import NOT_UTF8_VALUE, TOO_LONG_VALUE
from producer.readers.storable import UnreadableValue

MICROSECONDS_END = len("2026-11-25T06:00:00.123456")


def iter_values(column: Any) -> Iterator[object]:
    """A column's values, one by one, because those of a dictionary may together be many times its size."""
    kind = str(column.type)
    if kind.startswith("dictionary"):
        return _dictionary_values(column)
    if "dictionary<" in kind:
        return map(_nested_value, column)
    return _plain_values(column)


def _plain_values(column: Any) -> Iterator[object]:
    if column.type.num_fields:  # lists and structures: few bytes of a file may be many objects
        return map(_to_python, column)
    try:
        return iter(column.to_pylist())
    except MemoryError:
        raise
    except Exception:  # a value that Python can't hold, such as a time past the year 9999: find out which
        return map(_to_python, column)


def _dictionary_values(column: Any) -> Iterator[object]:
    dictionary = column.dictionary
    indices = column.indices.to_pylist()
    present = [index for index in indices if index is not None]
    if present and not 0 <= min(present) <= max(present) < len(dictionary):  # Arrow checks only columns without nulls
        raise BrokenBlock("a value is not in its column's dictionary")
    get_value: Callable[[int], object] = lambda index: _to_python(dictionary[index])  # noqa: E731
    if len(dictionary) <= len(indices) and dictionary.nbytes <= MAX_ROW_BYTES:
        get_value = list(_plain_values(dictionary)).__getitem__
    return (None if index is None else get_value(index) for index in indices)


def _nested_value(scalar: Any) -> object:
    """A list or an object with texts of a dictionary; an UnreadableValue if these are too long together."""
    if _dictionary_text_bytes(scalar) > MAX_ROW_BYTES:
        return TOO_LONG_VALUE
    return _to_python(scalar)


def _dictionary_text_bytes(scalar: Any) -> int:
    arrow_type = str(scalar.type)
    if not scalar.is_valid or "dictionary<" not in arrow_type:
        return 0
    if arrow_type.startswith("dictionary"):
        return len(scalar.value.as_buffer() or b"")
    values = scalar.values() if arrow_type.startswith("struct") else (scalar.values or ())
    total = 0
    for value in values:
        total += _dictionary_text_bytes(value)
        if total > MAX_ROW_BYTES:
            break
    return total


def _to_python(scalar: Any) -> object:
    try:
        return scalar.as_py()
    except MemoryError:
        raise
    except UnicodeDecodeError:
        return NOT_UTF8_VALUE
    except Exception as error:
        timestamp = _nanosecond_timestamp(scalar)
        if timestamp is not None:
            return timestamp
        return UnreadableValue(f"has a value that Python can't hold ({type(error).__name__}); write the column as text")


def _nanosecond_timestamp(scalar: Any) -> str | None:
    """A timestamp in nanoseconds as ISO 8601, because Python has only microseconds; None for other values."""
    arrow_type = scalar.type
    if not str(arrow_type).startswith("timestamp[ns"):
        return None
    microseconds, rest = divmod(scalar.value, 1000)
    try:
        utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
        time = utc.astimezone(_zone(arrow_type.tz)) if arrow_type.tz else utc.replace(tzinfo=None)
    except (OverflowError, ValueError):
        return None
    return nanosecond_text(time, rest)


def nanosecond_text(time: datetime, nanoseconds: int) -> str:
    """A time in ISO 8601 with so many nanoseconds more than it has."""
    text = time.isoformat(timespec="microseconds")
    return f"{text[:MICROSECONDS_END]}{nanoseconds:03}{text[MICROSECONDS_END:]}"


def _zone(name: str) -> tzinfo:
    from pyarrow.lib import string_to_tzinfo

    zone: tzinfo = string_to_tzinfo(name)
    return zone
