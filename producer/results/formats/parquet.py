"""Parquet files of results with typed columns, written while reading; needs pyarrow, the extra `parquet`."""

import io
from collections.abc import Iterable, Iterator
from typing import IO, Any

from producer.results.formats.arrow import arrow_schema, iter_batches
from producer.results.result_row import ResultRow
from producer.results.tabular import ColumnType, TabularLayout

# A group is in memory at once, as arrays. Readers skip whole groups, so a file should have few, large ones.
GROUP_ROWS, GROUP_BYTES = 50_000, 16 * 2**20


def write(file: IO[bytes], rows: Iterable[ResultRow], layout: TabularLayout) -> int:
    """Write all rows into an open file and return their number."""
    return sum(_write_groups(file, rows, layout))


def iter_parts(rows: Iterable[ResultRow], layout: TabularLayout) -> Iterator[bytes]:
    """Yield the bytes of the file, a row group at a time."""
    parts = _Parts()
    for _ in _write_groups(parts, rows, layout):
        yield parts.take()
    yield parts.take()


class _Parts(io.RawIOBase):
    """A file that keeps only what was written since the last `take`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._length

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._length += len(part)
        return len(part)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _write_groups(file: Any, rows: Iterable[ResultRow], layout: TabularLayout) -> Iterator[int]:
    """Write all rows into an open file, and yield the number of rows of each group."""
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    schema = arrow_schema(layout)
    # A dictionary of vectors, which hardly repeat, takes most of the time and some room.
    names = [name for name, column_type in layout.columns if column_type is not ColumnType.VECTOR]
    with ParquetWriter(file, schema, use_dictionary=names) as writer:
        for group in _iter_groups(rows, layout, schema):
            table = Table.from_batches(group)
            writer.write_table(table, row_group_size=len(table))
            yield len(table)


def _iter_groups(rows: Iterable[ResultRow], layout: TabularLayout, schema: Any) -> Iterator[list[Any]]:
    """Yield the record batches of each row group."""
    group: list[Any] = []
    for batch in iter_batches(rows, layout, schema, GROUP_ROWS):
        group.append(batch)
        if sum(map(len, group)) >= GROUP_ROWS or sum(part.nbytes for part in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group
