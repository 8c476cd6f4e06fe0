"""Results as Arrow's record batches, with one column for each of a table's; needs pyarrow, the extra `parquet`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from models.vectors import NUMBER_BYTES
from producer.readers.limits import portions
from producer.results.result_row import ResultRow
from producer.results.tabular import ColumnType, TabularLayout

# Rows become Arrow's arrays a batch at a time, because Python's objects take several times as much memory.
BATCH_ROWS, BATCH_BYTES = 1_000, 4 * 2**20


def open_reader(rows: Iterable[ResultRow], layout: TabularLayout) -> Any:
    """Return a RecordBatchReader, which takes the rows as it is read."""
    from pyarrow import RecordBatchReader

    schema = arrow_schema(layout)
    return RecordBatchReader.from_batches(schema, iter_batches(rows, layout, schema))


def iter_batches(
    rows: Iterable[ResultRow], layout: TabularLayout, schema: Any, max_rows: int | None = None
) -> Iterator[Any]:
    """Yield the rows in record batches of this schema.

    max_rows: in a batch; None = BATCH_ROWS
    """
    from pyarrow import record_batch

    for portion in portions(map(layout.row_values, rows), min(BATCH_ROWS, max_rows or BATCH_ROWS), BATCH_BYTES):
        columns = zip(schema, zip(*portion, strict=True), strict=True)
        yield record_batch([arrow_array(field.type, values) for field, values in columns], schema=schema)


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
        ColumnType.VECTOR: pyarrow.list_(pyarrow.float32(), layout.dimensions or -1),  # -1 = any number
    }
    return pyarrow.schema([(name, types[column_type]) for name, column_type in layout.columns])
