"""Readers: from files, URLs and standard input to rows, one at a time, in constant memory."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import BinaryIO

from models.errors import BatchmillError, JobError, Unreachable, UnreadableSource, first_line
from producer.readers import files, jsonl
from producer.readers.access import ANYWHERE, Access
from producer.readers.delimited import Table
from producer.readers.files import KINDS, STDIN, File
from producer.readers.limits import DEFAULT_LIMITS, Limits, Meter
from producer.readers.parquet import reader
from producer.readers.rows import FILE_STEP, Columns, Problem, Row, Source, unexpected

__all__ = ["KINDS", "STDIN", "Access", "opened", "rows_of"]

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
def opened(
    paths: str | Sequence[str], columns: Columns, kind: str | None = None, access: Access = ANYWHERE,
    limits: Limits | None = None,
) -> Iterator[Source]:  # fmt: skip
    """The rows of files, one after the other, or of standard input for `-`; they close with the block.

    A path may be a pattern, or a URL that fsspec knows and `access` admits. `kind` is one of KINDS; None goes by the
    files' names.
    Raises UnreadableSource, here or as rows are read, when one is not what it claims to be, SourceTooLarge where they
    go beyond the limits, and Unreachable when one breaks off.
    """
    found = files.found([paths] if isinstance(paths, str) else paths, kind, access)
    limits = limits or DEFAULT_LIMITS
    with closing(_all_rows(found, columns, Meter(limits))) as rows:
        name = (
            found[0].name
            if len(found) == 1
            else f"the set of {len(found):,} files from {found[0].name} to {found[-1].name}"
        )
        yield Source(name, found[0].unit, rows, tuple((file.name, file.unit) for file in found), limits)


def rows_of(records: Records, columns: Columns) -> Iterator[Row | Problem]:
    """The rows that records become."""
    return map(partial(_row, columns), records)  # it holds none of them, which may be large, beside the next


def _row(columns: Columns, record: tuple[int, object] | Problem) -> Row | Problem:
    if isinstance(record, Problem):
        return record
    try:
        return columns.row(*record)
    except JobError as error:
        return Problem(record[0], f"{error}{HINTS.get(error.code, '')}", error.code)
    except Exception as error:
        return unexpected(record[0], error)


def _all_rows(found: Sequence[File], columns: Columns, meter: Meter) -> Generator[Row | Problem, None, None]:
    for number, file in enumerate(found):
        for row in _rows(file, columns, meter):
            yield row._replace(where=row.where + number * FILE_STEP) if number else row


def _rows(file: File, columns: Columns, meter: Meter) -> Iterator[Row | Problem]:
    try:
        with file.opened() as stream:
            yield from rows_of(_records(stream, file, columns, meter), columns)
    except OSError as error:
        raise Unreachable(f"{file.name} broke off while it was read: {error.strerror or first_line(error)}") from error
    except (BatchmillError, MemoryError):
        raise
    except Exception as error:  # of a package that reads this kind of file
        raise UnreadableSource(f"{file.name} can't be read any further ({type(error).__name__})") from error


def _records(stream: BinaryIO, file: File, columns: Columns, meter: Meter) -> Records:
    if file.kind == "parquet":
        return reader.records(stream, file.name, columns, meter)
    if file.kind not in DELIMITERS:
        return jsonl.records(stream, file.name, meter)
    table = Table(stream, file.name, DELIMITERS[file.kind], meter)
    if not table.header:
        return ()
    columns.check(file.name, table.header)
    optional = [column for _, column, required in columns.fields if not required and column in table.header]
    return _without_blanks(table.records(), optional) if optional else table.records()


def _without_blanks(records: Iterable[tuple[int, dict[str, str]] | Problem], optional: list[str]) -> Records:
    # An empty cell is all that CSV has to say "none".
    for record in records:
        if not isinstance(record, Problem):
            for column in optional:
                if record[1][column] == "":
                    del record[1][column]
        yield record
