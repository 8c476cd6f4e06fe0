"""Parquet: read batch by batch, and of its columns the wanted ones only. Needs pyarrow, the extra `parquet`."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from models.errors import UnreadableSource, first_line
from producer.readers.rows import Columns
from producer.readers.storable import Unreadable

BATCH_ROWS = 4096  # as Python objects at once
BUFFER_BYTES = 2**20  # read ahead of each column, instead of its whole part of a row group
MAGIC = b"PAR1"


def records(stream: BinaryIO, name: str, columns: Columns) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row as a dictionary of the wanted columns, with its number from 1."""
    pyarrow = _pyarrow(name)
    with _seekable(stream) as file, _told(name, pyarrow):
        _check(file, name)
        table = pyarrow.parquet.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
        header = table.schema_arrow.names
        if twice := next((column for column, count in Counter(header).items() if count > 1), None):
            raise UnreadableSource(f"{name} has two columns {twice[:40]!r}; rename one")
        columns.check(name, header)
        wanted = [column for column in dict.fromkeys(columns.named()) if column in header]
        number = 1
        for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=wanted, use_threads=False):
            yield from _rows(batch, number)
            number += batch.num_rows


def _rows(batch: Any, number: int) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        rows = batch.to_pylist()
    except MemoryError:
        raise
    except Exception:  # one value that Python can't hold, such as a moment past the year 9999: find out which
        columns = list(zip(batch.schema.names, batch.columns, strict=True))
        rows = [{name: _value(column[place]) for name, column in columns} for place in range(batch.num_rows)]
    yield from enumerate(rows, start=number)


def _value(scalar: Any) -> object:
    try:
        return scalar.as_py()
    except MemoryError:
        raise
    except UnicodeDecodeError:
        return Unreadable("has text that is not UTF-8; write the column again as text")
    except Exception as error:
        return Unreadable(f"has a value that Python can't hold ({type(error).__name__}); write the column as text")


def _check(file: BinaryIO, name: str) -> None:
    start = file.read(len(MAGIC))
    if not start:
        raise UnreadableSource(f"{name} is empty, which no Parquet file is; write it again")
    if start != MAGIC:
        raise UnreadableSource(f"{name} is not a Parquet file; say what it is: --format jsonl or csv")
    file.seek(0)


@contextmanager
def _seekable(stream: BinaryIO) -> Iterator[BinaryIO]:
    """What Parquet needs, since its contents stand at its end: a pipe or a packed file goes to disk first."""
    if stream.seekable():
        yield stream
        return
    with tempfile.TemporaryFile(prefix="batchmill-") as file:
        shutil.copyfileobj(stream, file, 2**20)
        file.seek(0)
        yield cast("BinaryIO", file)


@contextmanager
def _told(name: str, pyarrow: Any) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        # Without a number it is no trouble of a disk: pages that can't be unpacked.
        raise UnreadableSource(f"{name} can't be read as Parquet: {first_line(error)}") from None
    except pyarrow.ArrowException as error:
        raise UnreadableSource(f"{name} can't be read as Parquet: {first_line(error)}") from None


def _pyarrow(name: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        install = "in the checkout, run: pip install -c constraints.txt '.[parquet]'"
        raise UnreadableSource(f"{name} is Parquet, which needs pyarrow; {install}") from None
    return pyarrow
