"""Parquet files of results with typed columns, written while reading; needs pyarrow, the extra `parquet`."""

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from models.errors import UsageError
from models.vectors import NUMBER_BYTES
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

    schema, count = arrow_schema(layout), 0
    # A dictionary of vectors, which hardly repeat, takes most of the time and some room.
    names = [name for name, column_type in layout.columns if column_type is not ColumnType.VECTOR]
    with ParquetWriter(file, schema, use_dictionary=names) as writer:
        for group in _iter_groups(rows, layout, schema):
            table = Table.from_batches(group)
            writer.write_table(table, row_group_size=len(table))
            count += len(table)
    return count


def _iter_groups(rows: Iterable[ResultRow], layout: TabularLayout, schema: Any) -> Iterator[list[Any]]:
    """Yield the record batches of each row group."""
    from pyarrow import record_batch

    group: list[Any] = []
    for chunk in portions(map(layout.row_values, rows), min(CHUNK_ROWS, GROUP_ROWS), CHUNK_BYTES):
        columns = zip(schema, zip(*chunk, strict=True), strict=True)
        group.append(record_batch([arrow_array(field.type, values) for field, values in columns], schema=schema))
        if sum(map(len, group)) >= GROUP_ROWS or sum(batch.nbytes for batch in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def arrow_array(arrow_type: Any, values: Sequence[Any]) -> Any:
    """Return the values of a column as an Arrow array; a vector's bytes are copied without reading its numbers."""
    import pyarrow

    if not pyarrow.types.is_fixed_size_list(arrow_type):
        return pyarrow.array(values, arrow_type)
    dimensions = arrow_type.list_size
    empty = bytes(dimensions * NUMBER_BYTES)  # a missing vector takes its room too
    content = pyarrow.py_buffer(b"".join(empty if vector is None else vector for vector in values))
    numbers = pyarrow.Array.from_buffers(pyarrow.float32(), len(values) * dimensions, [None, content])
    is_missing = pyarrow.array([vector is None for vector in values], pyarrow.bool_())
    return pyarrow.FixedSizeListArray.from_arrays(numbers, type=arrow_type, mask=is_missing)


def arrow_schema(layout: TabularLayout) -> Any:
    """Return the Arrow schema of the layout's columns."""
    import pyarrow

    types = {
        ColumnType.TEXT: pyarrow.string(),
        ColumnType.INTEGER: pyarrow.int64(),
        ColumnType.UUID: pyarrow.string(),
        ColumnType.NUMBER: pyarrow.float64(),
        ColumnType.BOOLEAN: pyarrow.bool_(),
        ColumnType.TIMESTAMP: pyarrow.timestamp("ms", tz="UTC"),
        ColumnType.JSON: pyarrow.string(),
        ColumnType.VECTOR: pyarrow.list_(pyarrow.float32(), layout.dimensions or 0),
    }
    return pyarrow.schema([(name, types[column_type]) for name, column_type in layout.columns])
