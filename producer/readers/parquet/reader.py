"""Parquet files are read row by row in bounded memory, and only the columns that are needed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from models.errors import UnreadableSource
from models.foreign_errors import first_line
from producer.readers.column_mapping import ColumnMapping, check_unique
from producer.readers.limits import Meter, size_bytes
from producer.readers.parquet.decompression import BrokenBlock
from producer.readers.parquet.footer import MAX_FOOTER_BYTES, PARQUET_MAGIC, footer_bytes, read_row_groups
from producer.readers.parquet.row_groups import LeafColumn, RowGroupPlan, leaf_columns, plan_row_group
from producer.readers.parquet.thrift import BrokenHeader
from producer.readers.parquet.values import iter_values
from producer.readers.spool import open_spool

BUFFER_BYTES = 2**18  # read ahead in each column, instead of its whole part of a row group
COPY_BYTES = 2**20


def read_records(
    stream: BinaryIO, name: str, columns: ColumnMapping, meter: Meter | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row's number, from 1, and its values of the mapped columns; raises UnreadableSource."""
    pyarrow, meter = _import_pyarrow(name), meter or Meter()
    with _ensure_seekable(stream, name, meter) as file, _translate_errors(name, pyarrow):
        _check_file(file, name)
        parquet_file = pyarrow.parquet.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
        header = parquet_file.schema_arrow.names
        check_unique(name, header)
        columns.check_header(name, header)
        selected = leaf_columns(parquet_file, set(columns.column_names(header)))
        number, metadata = 0, parquet_file.metadata
        for group_index, row_group in enumerate(read_row_groups(file, {leaf.index for leaf in selected})):
            source = f"{name}, row group {group_index + 1}"
            plan = plan_row_group(pyarrow, file, source, row_group, selected)
            for row in _RowGroupReader(pyarrow, file, metadata, group_index, plan).read_rows(selected, meter):
                number += 1
                meter.add(sum(map(size_bytes, row.values())), f"{name}, row {number}")
                yield number, row
            pyarrow.default_memory_pool().release_unused()


class _RowGroupReader:
    """Reads one row group by its plan."""

    def __init__(self, pyarrow: Any, file: BinaryIO, metadata: Any, group_index: int, plan: RowGroupPlan) -> None:
        self._pyarrow = pyarrow
        self._file = file
        self._metadata = metadata
        self._group_index = group_index
        self._plan = plan

    def read_rows(self, selected: Sequence[LeafColumn], meter: Meter) -> Iterator[dict[str, Any]]:
        """The rows, of the columns that Arrow reads and of those with large pages."""
        large = {
            column.column: column.read_values(self._file, meter, self._pyarrow) for column in self._plan.large_columns
        }
        names = [name for name in dict.fromkeys(leaf.column for leaf in selected) if name not in large]
        rows = self._read_batches(names) if names else ({} for _ in range(self._plan.row_count))
        if not large:
            yield from rows
            return
        for row in rows:
            for name, values in large.items():
                value = next(values, BrokenBlock)
                if value is BrokenBlock:
                    raise BrokenBlock("it has fewer values than rows")
                row[name] = value
            yield row

    def _read_batches(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        parquet_file = self._pyarrow.parquet.ParquetFile(
            self._file,
            metadata=self._metadata,
            buffer_size=BUFFER_BYTES,
            pre_buffer=False,
            read_dictionary=list(self._plan.dictionary_paths),
        )
        batch_rows, groups = self._plan.record_batch_rows, [self._group_index]
        for batch in parquet_file.iter_batches(batch_rows, groups, names, use_threads=False):
            columns = {name: iter_values(batch.column(name)) for name in names}
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(columns, values, strict=True))


def _check_file(file: BinaryIO, name: str) -> None:
    magic = file.read(len(PARQUET_MAGIC))
    if not magic:
        raise UnreadableSource(f"{name} is empty, which no Parquet file is; write it again")
    if magic != PARQUET_MAGIC:
        raise UnreadableSource(f"{name} is not a Parquet file; name its format, such as jsonl or csv")
    if footer_bytes(file) > MAX_FOOTER_BYTES:
        limit = MAX_FOOTER_BYTES // 2**20
        raise UnreadableSource(
            f"{name} has a footer of more than {limit} MiB; write it with fewer columns or row groups"
        )
    file.seek(0)


@contextmanager
def _ensure_seekable(stream: BinaryIO, name: str, meter: Meter) -> Iterator[BinaryIO]:
    """A stream that can seek, as Parquet needs; a pipe or compressed file is copied to disk first."""
    if stream.seekable():
        yield stream
        return
    copied = Meter(meter.limits)  # a separate count: `meter` counts the values that are read
    with open_spool() as file:
        while part := stream.read(COPY_BYTES):
            copied.add(len(part), name)
            try:
                file.write(part)
            except OSError as error:
                raise UnreadableSource(
                    f"{name} can't be copied to disk: {error.strerror}; set TMPDIR to a folder with more space"
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
        # An OSError without a number is pyarrow's, for pages that can't be decompressed.
        raise UnreadableSource(f"{name} can't be read as Parquet: {first_line(error)}") from None
    except BrokenHeader:
        raise UnreadableSource(f"{name} can't be read as Parquet: a page has no header; write it again") from None
    except BrokenBlock as error:
        raise UnreadableSource(f"{name} can't be read as Parquet: in a page too large for memory, {error}") from None
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
