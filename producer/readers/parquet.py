"""Parquet: read batch by batch, and of its columns the wanted ones only. Needs pyarrow, the extra `parquet`."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from models.errors import UnreadableSource, first_line
from producer.readers.rows import Columns, Problem

BATCH_ROWS = 4096  # as Python objects at once
BUFFER_BYTES = 2**20  # read ahead of each column, instead of its whole part of a row group
MAGIC = b"PAR1"


def records(stream: BinaryIO, name: str, columns: Columns) -> Iterator[tuple[int, dict[str, Any]] | Problem]:
    """Each row as a dictionary of the wanted columns, with its number from 1."""
    pyarrow = _pyarrow(name)
    with _seekable(stream) as file, _told(name, pyarrow):
        _check(file, name)
        table = pyarrow.parquet.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
        header = table.schema_arrow.names
        columns.check(name, header)
        wanted = [column for column in dict.fromkeys(columns.named()) if column in header]
        number = 1
        for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=wanted, use_threads=False):
            yield from _rows(batch, number)
            number += batch.num_rows


def _rows(batch: Any, number: int) -> Iterator[tuple[int, dict[str, Any]] | Problem]:
    try:
        rows = batch.to_pylist()
    except ValueError:  # one value that Python can't hold, such as text that is not UTF-8: find out which
        for place in range(batch.num_rows):
            yield _row(batch.slice(place, 1), number + place)
        return
    yield from enumerate(rows, start=number)


def _row(batch: Any, number: int) -> tuple[int, dict[str, Any]] | Problem:
    try:
        return number, batch.to_pylist()[0]
    except UnicodeDecodeError:
        return Problem(number, "has text that is not UTF-8; write the column again as text")
    except ValueError as error:
        return Problem(number, f"has a value that can't be read: {first_line(error)}")


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
    except pyarrow.ArrowException as error:
        raise UnreadableSource(f"{name} can't be read as Parquet: {first_line(error)}") from None


def _pyarrow(name: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        install = "in the checkout, run: pip install -c constraints.txt '.[parquet]'"
        raise UnreadableSource(f"{name} is Parquet, which needs pyarrow; {install}") from None
    return pyarrow
