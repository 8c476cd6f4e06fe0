"""Limits: how much is taken of a source, and of one of its rows, before it is refused by name."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from models.errors import SourceTooLarge
from models.settings import Settings

# The longest text that a task takes has a million characters; written as JSON escapes these are 12 MB.
MAX_ROW_BYTES = 16 * 2**20  # bytes of one row: a line, a CSV record, or the values of a Parquet file's or query's row

SETTINGS_FIELDS = Settings.model_fields

ROW_TOO_LARGE = "row_too_large"  # the code of such a row: what follows it may be as large
ROW_TOO_LONG_MESSAGE = f"is longer than {MAX_ROW_BYTES // 2**20} MiB; split it"

SCALAR_BYTES = 8  # bytes that a number or a moment is counted for
MAX_UNCOUNTED_KEYS = 64  # of an object, whose lengths don't matter


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator allows of a source: the settings `max_input_characters`, `max_source_bytes` and `_rows`."""

    max_input_characters: int = SETTINGS_FIELDS["max_input_characters"].default
    max_source_bytes: int = SETTINGS_FIELDS["max_source_bytes"].default
    max_source_rows: int = SETTINGS_FIELDS["max_source_rows"].default

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """As they are set."""
        return cls(settings.max_input_characters, settings.max_source_bytes, settings.max_source_rows)


DEFAULT_LIMITS = Limits()


class Meter:
    """Counts the bytes of a source, over all its files, as they are unpacked."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or DEFAULT_LIMITS
        self._max_bytes = self.limits.max_source_bytes
        self.total_bytes = 0

    def add(self, byte_count: int, location: str) -> None:
        """Count so many bytes more, which stand there; raises SourceTooLarge."""
        self.total_bytes += byte_count
        if self.total_bytes > self._max_bytes:
            raise SourceTooLarge(
                f"{location}: the source has more than {self._max_bytes:,} bytes, unpacked; split "
                "it, or raise max_source_bytes"
            )


def size_bytes(value: object) -> int:
    """About how many bytes a value holds, however it is nested."""
    if isinstance(value, str | bytes):
        return len(value)
    if not isinstance(value, dict | list | tuple):
        return SCALAR_BYTES
    total, left = 0, [value]
    while left:
        inner: Any = left.pop()
        total += SCALAR_BYTES * len(inner)
        # The frequent kinds first: this runs for every row.
        for one in inner.values() if isinstance(inner, dict) else inner:
            if isinstance(one, str | bytes):
                total += len(one)
            elif isinstance(one, dict | list | tuple):
                left.append(one)
        if isinstance(inner, dict) and len(inner) > MAX_UNCOUNTED_KEYS:
            total += sum(map(len, map(str, inner)))
    return total


def count_characters(raw_input: object) -> int:
    """How many characters an input has in all its texts; keys are none."""
    if isinstance(raw_input, str):
        return len(raw_input)
    total, left = 0, [raw_input]
    while left:
        inner: Any = left.pop()
        if isinstance(inner, str):
            total += len(inner)
        elif isinstance(inner, Mapping):
            left.extend(inner.values())
        elif isinstance(inner, list | tuple):
            left.extend(inner)
    return total


def portions(rows: Iterable[list[Any]], max_rows: int, max_bytes: int) -> Iterator[list[list[Any]]]:
    """The rows in portions of so many, and of fewer where they hold more than so many bytes; none is empty."""
    portion: list[list[Any]] = []
    held = 0
    for row in rows:
        portion.append(row)
        held += size_bytes(row)
        if len(portion) >= max_rows or held >= max_bytes:
            yield portion
            portion, held = [], 0
    if portion:
        yield portion
