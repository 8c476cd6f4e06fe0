"""Readers: from files, URLs and standard input to rows, one at a time, in constant memory."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import BinaryIO

from models.errors import BatchmillError, JobError, Unreachable, UnreadableSource, first_line
from producer.readers import files, jsonl
from producer.readers.access import UNRESTRICTED, Access
from producer.readers.delimited import DelimitedReader
from producer.readers.files import FILE_FORMATS, STDIN, SourceFile
from producer.readers.limits import DEFAULT_LIMITS, Limits, Meter
from producer.readers.parquet import reader
from producer.readers.rows import FILE_OFFSET, ColumnMapping, Problem, Row, Source, unexpected_problem

__all__ = ["FILE_FORMATS", "STDIN", "Access", "open_source", "rows_from_records"]

DELIMITERS = {"csv": ",", "tsv": "\t"}

# Which option mends what is wrong with a row's columns.
HINTS = {
    "missing_field": "; say which to take: --input FIELD=COLUMN",
    "missing_id": "; leave --id out, or fill it in",
    "invalid_id": "; take another with --id, or none with --no-id",
    "missing_meta": "; leave that --meta out, or write null there",
}

Records = Iterable[tuple[int, object] | Problem]


@contextmanager
def open_source(
    paths: str | Sequence[str],
    columns: ColumnMapping,
    file_format: str | None = None,
    access: Access = UNRESTRICTED,
    limits: Limits | None = None,
) -> Iterator[Source]:
    """The rows of files, one after the other, or of standard input for `-`; they close with the block.

    A path may be a pattern, or a URL that fsspec knows and `access` admits. `kind` is one of KINDS; None goes by the
    files' names.
    Raises UnreadableSource, here or as rows are read, when one is not what it claims to be, SourceTooLarge where they
    go beyond the limits, and Unreachable when one breaks off.
    """
    found = files.find_files([paths] if isinstance(paths, str) else paths, file_format, access)
    limits = limits or DEFAULT_LIMITS
    with closing(_read_files(found, columns, Meter(limits))) as rows:
        name = (
            found[0].name
            if len(found) == 1
            else f"the set of {len(found):,} files from {found[0].name} to {found[-1].name}"
        )
        yield Source(name, found[0].unit, rows, tuple((file.name, file.unit) for file in found), limits)


def rows_from_records(records: Records, columns: ColumnMapping) -> Iterator[Row | Problem]:
    """The rows that records become."""
    return map(
        partial(_row_from_record, columns), records
    )  # it holds none of them, which may be large, beside the next


def _row_from_record(columns: ColumnMapping, record: tuple[int, object] | Problem) -> Row | Problem:
    if isinstance(record, Problem):
        return record
    try:
        return columns.map_row(*record)
    except JobError as error:
        return Problem(record[0], f"{error}{HINTS.get(error.code, '')}", error.code)
    except Exception as error:
        return unexpected_problem(record[0], error)


def _read_files(
    source_files: Sequence[SourceFile], columns: ColumnMapping, meter: Meter
) -> Generator[Row | Problem, None, None]:
    for number, file in enumerate(source_files):
        for row in _read_file(file, columns, meter):
            yield row._replace(location=row.location + number * FILE_OFFSET) if number else row


def _read_file(file: SourceFile, columns: ColumnMapping, meter: Meter) -> Iterator[Row | Problem]:
    try:
        with file.open_stream() as stream:
            yield from rows_from_records(_read_records(stream, file, columns, meter), columns)
    except OSError as error:
        raise Unreachable(f"{file.name} broke off while it was read: {error.strerror or first_line(error)}") from error
    except (BatchmillError, MemoryError):
        raise
    except Exception as error:  # of a package that reads this kind of file
        raise UnreadableSource(f"{file.name} can't be read any further ({type(error).__name__})") from error


def _read_records(stream: BinaryIO, file: SourceFile, columns: ColumnMapping, meter: Meter) -> Records:
    if file.file_format == "parquet":
        return reader.read_records(stream, file.name, columns, meter)
    if file.file_format not in DELIMITERS:
        return jsonl.read_records(stream, file.name, meter)
    table = DelimitedReader(stream, file.name, DELIMITERS[file.file_format], meter)
    if not table.header:
        return ()
    columns.check_header(file.name, table.header)
    optional = [column for _, column, required in columns.fields if not required and column in table.header]
    return _drop_empty_cells(table.records(), optional) if optional else table.records()


def _drop_empty_cells(records: Iterable[tuple[int, dict[str, str]] | Problem], optional_columns: list[str]) -> Records:
    # An empty cell is all that CSV has to say "none".
    for record in records:
        if not isinstance(record, Problem):
            for column in optional_columns:
                if record[1][column] == "":
                    del record[1][column]
        yield record
