"""Parquet files of results with typed columns, written while reading; needs pyarrow, the extra `parquet`."""

import importlib.util
from collections.abc import Iterable
from typing import IO, Any

from models.errors import UsageError
from producer.readers.limits import portions
from producer.results.pages import ResultRow
from producer.results.tabular import ColumnType, TabularLayout

# A group is in memory at once. Readers skip whole groups, so a file should have few, large ones.
GROUP_ROWS = 50_000
GROUP_BYTES = 16 * 2**20


def require_pyarrow() -> None:
    """Raise UsageError with the command that installs pyarrow, if it is missing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("Parquet needs pyarrow; in the checkout, run: pip install -c constraints.txt '.[parquet]'")


def write(file: IO[bytes], rows: Iterable[ResultRow], layout: TabularLayout) -> int:
    """Write all rows into an open file and return their number."""
    from pyarrow import array, record_batch
    from pyarrow.parquet import ParquetWriter

    schema, count = _arrow_schema(layout), 0
    with ParquetWriter(file, schema) as writer:
        for group in portions(map(layout.row_values, rows), GROUP_ROWS, GROUP_BYTES):
            count += len(group)
            columns = zip(schema, zip(*group, strict=True), strict=True)
            writer.write_batch(record_batch([array(values, field.type) for field, values in columns], schema=schema))
    return count


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
