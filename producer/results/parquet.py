"""Parquet files of results with typed columns, written while reading; needs pyarrow, the extra `parquet`."""

import importlib.util
from collections.abc import Iterable, Iterator
from typing import IO, Any

from models.errors import UsageError
from producer.readers.limits import portions
from producer.results.result_row import ResultRow
from producer.results.tabular import ColumnType, TabularLayout

# Rows become Arrow's arrays a chunk at a time, because Python's objects take several times as much memory.
CHUNK_ROWS, CHUNK_BYTES = 1_000, 4 * 2**20
# A group is in memory at once, as arrays. Readers skip whole groups, so a file should have few, large ones.
GROUP_ROWS, GROUP_BYTES = 50_000, 16 * 2**20


def require_pyarrow() -> None:
    """Raise UsageError with the command that installs pyarrow, if it is missing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("Parquet needs pyarrow; in the checkout, run: pip install -c constraints.txt '.[parquet]'")


def write(file: IO[bytes], rows: Iterable[ResultRow], layout: TabularLayout) -> int:
    """Write all rows into an open file and return their number."""
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    schema, count = _arrow_schema(layout), 0
    with ParquetWriter(file, schema) as writer:
        for group in _iter_groups(rows, layout, schema):
            table = Table.from_batches(group)
            writer.write_table(table, row_group_size=len(table))
            count += len(table)
    return count


def _iter_groups(rows: Iterable[ResultRow], layout: TabularLayout, schema: Any) -> Iterator[list[Any]]:
    """Yield the record batches of each row group."""
    from pyarrow import array, record_batch

    group: list[Any] = []
    for chunk in portions(map(layout.row_values, rows), min(CHUNK_ROWS, GROUP_ROWS), CHUNK_BYTES):
        columns = zip(schema, zip(*chunk, strict=True), strict=True)
        group.append(record_batch([array(values, field.type) for field, values in columns], schema=schema))
        if sum(map(len, group)) >= GROUP_ROWS or sum(batch.nbytes for batch in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _arrow_schema(layout: TabularLayout) -> Any:
    import pyarrow

    types = {
        ColumnType.TEXT: pyarrow.string(),
        ColumnType.INTEGER: pyarrow.int64(),
        ColumnType.UUID: pyarrow.string(),
        ColumnType.NUMBER: pyarrow.float64(),
        ColumnType.BOOLEAN: pyarrow.bool_(),
        ColumnType.TIMESTAMP: pyarrow.timestamp("ms", tz="UTC"),
        ColumnType.JSON: pyarrow.string(),
    }
    return pyarrow.schema([(name, types[column_type]) for name, column_type in layout.columns])
