"""Parquet: results in typed columns, written as they are read. Needs pyarrow, the extra `parquet`."""

import importlib.util
from collections.abc import Iterable, Iterator
from typing import IO, Any

from models.errors import UsageError
from producer.readers.limits import portions
from producer.results.pages import ResultRow
from producer.results.tabular import Kind, Sheet

# In memory at once: readers skip whole groups, so few and large ones.
GROUP_ROWS = 50_000
GROUP_BYTES = 16 * 2**20


def required() -> None:
    """Raise UsageError, saying what to install, where pyarrow is missing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("Parquet needs pyarrow; in the checkout, run: pip install -c constraints.txt '.[parquet]'")


def write(file: IO[bytes], rows: Iterable[ResultRow], sheet: Sheet) -> int:
    """Write all rows into an open file; returns how many."""
    from pyarrow import array, record_batch
    from pyarrow.parquet import ParquetWriter

    schema, count = _schema(sheet), 0
    with ParquetWriter(file, schema) as writer:
        for group in _groups(rows, sheet):
            count += len(group)
            columns = zip(schema, zip(*group, strict=True), strict=True)
            writer.write_batch(record_batch([array(values, field.type) for field, values in columns], schema=schema))
    return count


def _schema(sheet: Sheet) -> Any:
    import pyarrow

    types = {
        Kind.TEXT: pyarrow.string(), Kind.INTEGER: pyarrow.int64(), Kind.NUMBER: pyarrow.float64(),
        Kind.BOOLEAN: pyarrow.bool_(), Kind.MOMENT: pyarrow.timestamp("ms", tz="UTC"),
        Kind.DOCUMENT: pyarrow.string(),
    }  # fmt: skip
    return pyarrow.schema([(name, types[kind]) for name, kind in sheet.columns])


def _groups(rows: Iterable[ResultRow], sheet: Sheet) -> Iterator[list[list[Any]]]:
    return portions(map(sheet.values, rows), GROUP_ROWS, GROUP_BYTES)
