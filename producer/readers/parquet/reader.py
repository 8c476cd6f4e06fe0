"""Parquet: read row by row in bounded memory, and of its columns the wanted ones only. Needs pyarrow, the extra."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, BinaryIO

from models.errors import UnreadableSource, first_line
from producer.readers.limits import MAX_ROW_BYTES, ROW_TOO_LONG_MESSAGE, Meter, size_bytes
from producer.readers.parquet.decompression import BrokenBlock
from producer.readers.parquet.pages import BrokenHeader
from producer.readers.parquet.row_groups import LeafColumn, RowGroupPlan, leaf_columns, plan_row_group
from producer.readers.rows import ColumnMapping
from producer.readers.spool import open_spool
from producer.readers.storable import UnreadableValue

BUFFER_BYTES = 2**18  # read ahead of each column, instead of its whole part of a row group
COPY_BYTES = 2**20
PARQUET_MAGIC = b"PAR1"
MAX_FOOTER_BYTES = 16 * 2**20  # takes some ten times as much once it is taken apart


def read_records(
    stream: BinaryIO, name: str, columns: ColumnMapping, meter: Meter | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row as a dictionary of the wanted columns, with its number from 1. Raises UnreadableSource."""
    pyarrow, meter = _import_pyarrow(name), meter or Meter()
    with _ensure_seekable(stream, name, meter) as file, _translate_errors(name, pyarrow):
        _check_file(file, name)
        table = pyarrow.parquet.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
        header = table.schema_arrow.names
        if twice := next((column for column, count in Counter(header).items() if count > 1), None):
            raise UnreadableSource(f"{name} has two columns {twice[:40]!r}; rename one")
        columns.check_header(name, header)
        there = set(header)
        wanted = leaf_columns(table, [column for column in dict.fromkeys(columns.column_names()) if column in there])
        number = 0
        for group in range(table.metadata.num_row_groups):
            how = plan_row_group(pyarrow, file, name, table.metadata, group, wanted)
            for row in _RowGroupReader(pyarrow, file, table.metadata, group, how).read_rows(wanted, meter):
                number += 1
                meter.add(sum(map(size_bytes, row.values())), f"{name}, row {number}")
                yield number, row
            pyarrow.default_memory_pool().release_unused()


class _RowGroupReader:
    """One row group, to be read as it was planned."""

    def __init__(self, pyarrow: Any, file: BinaryIO, metadata: Any, group_index: int, plan: RowGroupPlan) -> None:
        self._pyarrow = pyarrow
        self._file = file
        self._metadata = metadata
        self._group_index = group_index
        self._plan = plan

    def read_rows(self, selected: Sequence[LeafColumn], meter: Meter) -> Iterator[dict[str, Any]]:
        """Its rows: what Arrow reads, beside the columns that are read apart."""
        apart = {one.column: one.read_values(self._file, meter, self._pyarrow) for one in self._plan.large_columns}
        names = [name for name in dict.fromkeys(leaf.column for leaf in selected) if name not in apart]
        plain = self._read_batches(names) if names else ({} for _ in range(self._plan.row_count))
        if not apart:
            yield from plain
            return
        for row in plain:
            for name, values in apart.items():
                value = next(values, BrokenBlock)
                if value is BrokenBlock:
                    raise BrokenBlock("it has fewer values than rows")
                row[name] = value
            yield row

    def _read_batches(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        table = self._pyarrow.parquet.ParquetFile(
            self._file,
            metadata=self._metadata,
            buffer_size=BUFFER_BYTES,
            pre_buffer=False,
            read_dictionary=list(self._plan.dictionary_paths),
        )
        batches = table.iter_batches(self._plan.record_batch_rows, [self._group_index], names, use_threads=False)
        for batch in batches:
            columns = {name: _iter_values(batch.column(name)) for name in names}
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(columns, values, strict=True))


def _iter_values(column: Any) -> Iterator[object]:
    """A column's values, one by one: a dictionary's may be many times as large as the column."""
    kind = str(column.type)
    if kind.startswith("dictionary"):
        return _dictionary_values(column)
    if "dictionary<" in kind:
        return map(_nested_value, column)
    return _plain_values(column)


def _plain_values(column: Any) -> Iterator[object]:
    try:
        return iter(column.to_pylist())
    except MemoryError:
        raise
    except Exception:  # one value that Python can't hold, such as a moment past the year 9999: find out which
        return map(_to_python, column)


def _dictionary_values(column: Any) -> Iterator[object]:
    dictionary = column.dictionary
    numbers = column.indices.to_pylist()
    fetch: Callable[[int], object] = lambda number: _to_python(dictionary[number])  # noqa: E731
    if len(dictionary) <= len(numbers):
        fetch = list(_plain_values(dictionary)).__getitem__
    return (None if number is None else fetch(number) for number in numbers)


def _nested_value(scalar: Any) -> object:
    """A list or an object with texts of a dictionary in it, unless these are too long together."""
    return (
        UnreadableValue(ROW_TOO_LONG_MESSAGE) if _dictionary_text_bytes(scalar) > MAX_ROW_BYTES else _to_python(scalar)
    )


def _dictionary_text_bytes(scalar: Any) -> int:
    kind = str(scalar.type)
    if not scalar.is_valid or "dictionary<" not in kind:
        return 0
    if kind.startswith("dictionary"):
        return len(scalar.value.as_buffer() or b"")
    inner = scalar.values() if kind.startswith("struct") else (scalar.values or ())
    total = 0
    for one in inner:
        total += _dictionary_text_bytes(one)
        if total > MAX_ROW_BYTES:
            break
    return total


def _to_python(scalar: Any) -> object:
    try:
        return scalar.as_py()
    except MemoryError:
        raise
    except UnicodeDecodeError:
        return UnreadableValue("has text that is not UTF-8; write the column again as text")
    except Exception as error:
        moment = _nanosecond_timestamp(scalar)
        if moment is not None:
            return moment
        return UnreadableValue(f"has a value that Python can't hold ({type(error).__name__}); write the column as text")


def _nanosecond_timestamp(scalar: Any) -> str | None:
    """A moment in nanoseconds as ISO 8601, which Python's own has not; None for anything else."""
    kind = scalar.type
    if not str(kind).startswith("timestamp[ns"):
        return None
    microseconds, rest = divmod(scalar.value, 1000)
    try:
        moment = datetime(1970, 1, 1) + timedelta(microseconds=microseconds)
    except OverflowError:
        return None
    return f"{moment.isoformat(timespec='microseconds')}{rest:03}{'' if kind.tz is None else '+00:00'}"


def _check_file(file: BinaryIO, name: str) -> None:
    start = file.read(len(PARQUET_MAGIC))
    if not start:
        raise UnreadableSource(f"{name} is empty, which no Parquet file is; write it again")
    if start != PARQUET_MAGIC:
        raise UnreadableSource(f"{name} is not a Parquet file; say what it is: --format jsonl or csv")
    end = file.seek(0, 2)
    file.seek(max(end - 8, 0))
    if int.from_bytes(file.read(4), "little") > MAX_FOOTER_BYTES and file.read(4) == PARQUET_MAGIC:
        most = MAX_FOOTER_BYTES // 2**20
        raise UnreadableSource(
            f"{name} has a footer of more than {most} MiB; write it with fewer columns or row groups"
        )
    file.seek(0)


@contextmanager
def _ensure_seekable(stream: BinaryIO, name: str, meter: Meter) -> Iterator[BinaryIO]:
    """What Parquet needs, since its contents stand at its end: a pipe or a packed file goes to disk first."""
    if stream.seekable():
        yield stream
        return
    unpacked = Meter(meter.limits)  # what it holds is counted apart
    with open_spool() as file:
        while part := stream.read(COPY_BYTES):
            unpacked.add(len(part), name)
            try:
                file.write(part)
            except OSError as error:
                raise UnreadableSource(
                    f"{name} can't be unpacked to disk: {error.strerror}; set TMPDIR to a folder with more room"
                ) from None
        file.seek(0)
        yield file


@contextmanager
def _translate_errors(name: str, pyarrow: Any) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        # Without a number it is no trouble of a disk: pages that can't be unpacked.
        raise UnreadableSource(f"{name} can't be read as Parquet: {first_line(error)}") from None
    except BrokenHeader:
        raise UnreadableSource(f"{name} can't be read as Parquet: a page has no header; write it again") from None
    except BrokenBlock as error:
        raise UnreadableSource(f"{name} can't be read as Parquet: of a page too large for memory, {error}") from None
    except UnicodeDecodeError:
        raise UnreadableSource(
            f"{name} can't be read as Parquet: a column's name is not UTF-8; write it again"
        ) from None
    except pyarrow.ArrowException as error:
        raise UnreadableSource(f"{name} can't be read as Parquet: {first_line(error)}") from None


def _import_pyarrow(name: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        install = "in the checkout, run: pip install -c constraints.txt '.[parquet]'"
        raise UnreadableSource(f"{name} is Parquet, which needs pyarrow; {install}") from None
    return pyarrow
