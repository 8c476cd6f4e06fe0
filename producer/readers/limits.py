"""Limits bound the size of a source and of its rows, which are rejected beyond them."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from models.errors import SourceTooLarge
from models.settings import Settings

# One line, CSV record, or row of a Parquet file or query. The longest text that a task takes has a million characters,
# which are 12 MB as JSON escapes.
MAX_ROW_BYTES = 16 * 2**20

SETTINGS_FIELDS = Settings.model_fields

ROW_TOO_LARGE = "row_too_large"  # an error code
ROW_TOO_LONG_MESSAGE = f"is longer than {MAX_ROW_BYTES // 2**20} MiB; split it"

SCALAR_BYTES = 8  # counted for a number or a time
MAX_UNCOUNTED_KEYS = 64  # an object's keys count only if there are more


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a source: the settings `max_input_characters`, `max_source_bytes` and `max_source_rows`.

    max_seconds: after which a look at the beginning of a source ends, even within blank lines; None = never
    """

    max_input_characters: int = SETTINGS_FIELDS["max_input_characters"].default
    max_source_bytes: int = SETTINGS_FIELDS["max_source_bytes"].default
    max_source_rows: int = SETTINGS_FIELDS["max_source_rows"].default
    max_seconds: float | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The limits that the operator has set."""
        return cls(settings.max_input_characters, settings.max_source_bytes, settings.max_source_rows)


DEFAULT_LIMITS = Limits()


class OutOfTime(SourceTooLarge):
    """A look at the beginning of a source took longer than it may."""


class Meter:
    """Counts the uncompressed bytes of a source, over all its files."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or DEFAULT_LIMITS
        self._max_bytes = self.limits.max_source_bytes
        self._ends_at = None if self.limits.max_seconds is None else time.monotonic() + self.limits.max_seconds
        self.total_bytes = 0

    def add(self, byte_count: int, location: str) -> None:
        """Count the bytes at a location; raises SourceTooLarge beyond the limit, and OutOfTime."""
        self.total_bytes += byte_count
        if self._ends_at is not None and time.monotonic() > self._ends_at:
            raise OutOfTime(f"{location}: reading takes longer than {self.limits.max_seconds:g} s")
        if self.total_bytes > self._max_bytes:
            raise SourceTooLarge(
                f"{location}: the source has more than {self._max_bytes:,} bytes uncompressed; split it, or raise "
                "max_source_bytes"
            )


def size_bytes(value: object) -> int:
    """The approximate size of a value, however deeply it is nested."""
    if isinstance(value, str | bytes):
        return len(value)
    if not isinstance(value, dict | list | tuple):
        return SCALAR_BYTES
    total, pending = 0, [value]
    while pending:
        container: Any = pending.pop()
        total += SCALAR_BYTES * len(container)
        # The frequent types first: this runs for every row.
        for item in container.values() if isinstance(container, dict) else container:
            if isinstance(item, str | bytes):
                total += len(item)
            elif isinstance(item, dict | list | tuple):
                pending.append(item)
        if isinstance(container, dict) and len(container) > MAX_UNCOUNTED_KEYS:
            total += sum(map(len, map(str, container)))
    return total


def count_characters(raw_input: object) -> int:
    """The number of characters in all texts of an input, without its keys."""
    if isinstance(raw_input, str):
        return len(raw_input)
    total, pending = 0, [raw_input]
    while pending:
        container: Any = pending.pop()
        if isinstance(container, str):
            total += len(container)
        elif isinstance(container, Mapping):
            pending.extend(container.values())
        elif isinstance(container, list | tuple):
            pending.extend(container)
    return total


def portions(rows: Iterable[list[Any]], max_rows: int, max_bytes: int) -> Iterator[list[list[Any]]]:
    """The rows in portions, each of which ends at `max_rows` or once it has `max_bytes`; none is empty."""
    portion: list[list[Any]] = []
    portion_bytes = 0
    for row in rows:
        portion.append(row)
        portion_bytes += size_bytes(row)
        if len(portion) >= max_rows or portion_bytes >= max_bytes:
            yield portion
            portion, portion_bytes = [], 0
    if portion:
        yield portion
