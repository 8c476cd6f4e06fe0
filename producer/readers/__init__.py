"""Readers turn files, URLs and standard input into rows, one at a time, in constant memory."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import BinaryIO

from models.errors import BatchmillError, JobError, Unreachable, UnreadableSource
from models.foreign_errors import first_line
from producer.readers import given_names
from producer.readers.column_mapping import ColumnMapping
from producer.readers.files.access import UNRESTRICTED, Access
from producer.readers.files.source_files import FILE_FORMATS, STDIN, SourceFile, StreamFile, find_files
from producer.readers.limits import DEFAULT_LIMITS, Limits, Meter
from producer.readers.parquet import reader
from producer.readers.rows import FILE_OFFSET, Problem, Row, Source, unexpected_problem
from producer.readers.text import jsonl, text_lines
from producer.readers.text.delimited import DelimitedReader

__all__ = ["FILE_FORMATS", "STDIN", "Access", "open_records", "open_source", "open_stream", "rows_from_records"]

DELIMITERS = {"csv": ",", "tsv": "\t"}
MAX_DOUBTS = 3  # of one source, which may have thousands of files

Records = Iterable[tuple[int, object] | Problem]


@contextmanager
def open_source(
    paths: str | Sequence[str],
    columns: ColumnMapping,
    file_format: str | None = None,
    access: Access = UNRESTRICTED,
    limits: Limits | None = None,
) -> Iterator[Source]:
    """The rows of files, one after the other; the files are closed when the block ends.

    paths: paths, patterns, URLs that fsspec knows and `access` allows, or `-` for standard input.
    file_format: one of FILE_FORMATS; None = by each file's name.
    limits: None = the default limits.

    Raises UsageError for column names that are given to another format. Opening and reading raise UnreadableSource if a
    file is not in its format, SourceTooLarge beyond the limits, and Unreachable if reading breaks off.
    """
    source_files = find_files([paths] if isinstance(paths, str) else paths, file_format, access)
    _check_formats(source_files, columns)
    limits = limits or DEFAULT_LIMITS
    first, last = source_files[0], source_files[-1]
    name = first.name if first is last else f"the set of {len(source_files):,} files from {first.name} to {last.name}"
    doubts: list[str] = []
    with closing(_read_files(source_files, columns, Meter(limits), doubts)) as rows:
        files = tuple((file.name, file.unit) for file in source_files)
        yield Source(name, first.unit, rows, files, limits, column_names=columns.header, doubts=doubts)


@contextmanager
def open_stream(
    stream: BinaryIO, name: str, file_format: str, columns: ColumnMapping, limits: Limits
) -> Iterator[Source]:
    """The rows of a stream, which may be compressed, as `open_source` has them; the caller closes the stream.

    name: for messages.
    file_format: one of FILE_FORMATS.
    """
    file = StreamFile(stream, name, file_format)
    _check_formats([file], columns)
    doubts: list[str] = []
    with closing(_read_file(file, columns, Meter(limits), doubts)) as rows:
        yield Source(name, file.unit, rows, limits=limits, column_names=columns.header, doubts=doubts)


@contextmanager
def open_records(
    stream: BinaryIO, name: str, file_format: str, columns: ColumnMapping, limits: Limits
) -> Iterator[tuple[Records, list[str]]]:
    """The records of a stream with all their columns, before anything is mapped, and the reader's doubts.

    The caller closes the stream. Raises as `open_source` does.
    """
    file = StreamFile(stream, name, file_format)
    _check_formats([file], columns)
    with _explain_errors(name), file.open_stream() as content:
        doubts: list[str] = []
        yield _read_records(content, file, columns, Meter(limits), doubts), doubts


def _check_formats(files: Iterable[SourceFile | StreamFile], columns: ColumnMapping) -> None:
    """Raise UsageError if names are given to the columns of a file that has them itself, or has none."""
    other = next((file for file in files if file.file_format not in DELIMITERS), None)
    if columns.header and other is not None:
        raise given_names.wrong_format(other.name, other.file_format)


def rows_from_records(records: Records, columns: ColumnMapping) -> Iterator[Row | Problem]:
    """The rows that records are mapped to."""
    # Unlike a generator's variable, `map` does not keep a large record in memory beside the next one.
    return map(partial(_row_from_record, columns), records)


def _row_from_record(columns: ColumnMapping, record: tuple[int, object] | Problem) -> Row | Problem:
    if isinstance(record, Problem):
        return record._replace(passthrough=columns.keep_passthrough(None))
    try:
        return columns.map_row(*record)
    except JobError as error:
        return columns.explain_rejection(*record, error, columns.advice.hints)
    except Exception as error:
        location, values = record
        return columns.identify(unexpected_problem(location, error), values)


def _read_files(
    source_files: Sequence[SourceFile], columns: ColumnMapping, meter: Meter, doubts: list[str]
) -> Generator[Row | Problem, None, None]:
    for number, file in enumerate(source_files):
        for row in _read_file(file, columns, meter, doubts):
            yield row._replace(location=row.location + number * FILE_OFFSET) if number else row


def _read_file(
    file: SourceFile | StreamFile, columns: ColumnMapping, meter: Meter, doubts: list[str]
) -> Generator[Row | Problem, None, None]:
    with _explain_errors(file.name), file.open_stream() as stream:
        found: list[str] = []
        records = _read_records(stream, file, columns, meter, found)
        doubts.extend(f"{file.name}: {doubt}" for doubt in found[: MAX_DOUBTS - len(doubts)])
        yield from rows_from_records(records, columns)


@contextmanager
def _explain_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unreachable(f"{name} broke off while it was read: {error.strerror or first_line(error)}") from error
    except (BatchmillError, MemoryError):
        raise
    except Exception as error:  # raised by a package that reads this format
        raise UnreadableSource(f"{name} can't be read any further ({type(error).__name__})") from error


def _read_records(
    stream: BinaryIO, file: SourceFile | StreamFile, columns: ColumnMapping, meter: Meter, doubts: list[str]
) -> Records:
    if file.file_format == "parquet":
        return reader.read_records(stream, file.name, columns, meter)
    if file.file_format == "text":
        return text_lines.read_texts(stream, file.name, meter)
    if file.file_format not in DELIMITERS:
        return jsonl.read_records(stream, file.name, meter)
    table = DelimitedReader(stream, file.name, DELIMITERS[file.file_format], meter, columns)
    if not table.header:
        return ()
    doubt = table.find_doubt()
    try:
        columns.check_header(file.name, table.header)
    except UnreadableSource as error:
        if doubt is None:
            raise
        raise UnreadableSource(f"{error}; {doubt}") from None
    if doubt is not None:
        doubts.append(doubt)
    optional = [column for _, column, required in columns.fields if not required and column in table.header]
    records = columns.restore_cells(table.records())
    return _drop_empty_cells(records, optional) if optional else records


def _drop_empty_cells(records: Iterable[tuple[int, dict[str, str]] | Problem], optional_columns: list[str]) -> Records:
    # CSV has no other way to leave an optional field out.
    for record in records:
        if not isinstance(record, Problem):
            for column in optional_columns:
                if record[1][column] == "":
                    del record[1][column]
        yield record
