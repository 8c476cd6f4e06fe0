"""Readers: from a path or standard input to rows, one at a time, in constant memory."""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from models.errors import JobError, UnreadableSource
from producer.readers import jsonl
from producer.readers.delimited import Table
from producer.readers.rows import Columns, Problem, Row, Source

STDIN = "-"
DELIMITERS = {"csv": ",", "tsv": "\t"}
KINDS = ("jsonl", *DELIMITERS)
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv"}

# Which option mends what is wrong with a row's columns.
HINTS = {
    "missing_field": "; say which to take: --input FIELD=COLUMN",
    "missing_id": "; leave --id out, or fill it in",
    "invalid_id": "; take another with --id, or none with --no-id",
}

Records = Iterable[tuple[int, object] | Problem]


@contextmanager
def opened(path: str, columns: Columns, kind: str | None = None) -> Iterator[Source]:
    """The rows of a file, or of standard input for `-`; the file closes with the block.

    `kind` is one of KINDS; None goes by the file's name, and takes standard input for JSON lines.
    Raises UnreadableSource, here or as rows are read, when the whole is not what it claims to be.
    """
    name = "standard input" if path == STDIN else path
    kind = kind or _kind(path)
    if path == STDIN:
        yield _source(sys.stdin.buffer, name, columns, kind)
        return
    with closing(_open(path)) as stream:
        yield _source(stream, name, columns, kind)


def _source(stream: BinaryIO, name: str, columns: Columns, kind: str) -> Source:
    return Source(name, "line", _rows(_records(stream, name, columns, kind), columns))


def _rows(records: Records, columns: Columns) -> Iterator[Row | Problem]:
    for record in records:
        if isinstance(record, Problem):
            yield record
            continue
        try:
            yield columns.row(*record)
        except JobError as error:
            yield Problem(record[0], f"{error}{HINTS.get(error.code, '')}", error.code)


def _records(stream: BinaryIO, name: str, columns: Columns, kind: str) -> Records:
    if kind not in DELIMITERS:
        return jsonl.records(stream, name)
    table = Table(stream, name, DELIMITERS[kind])
    if not table.header:
        return ()
    columns.check(name, table.header)
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


def _kind(path: str) -> str:
    if path == STDIN:
        return "jsonl"
    suffix = Path(path).suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in (".gz", ".bz2", ".xz", ".zst", ".zip"):
        raise UnreadableSource(f"{path} is compressed; unpack it: gunzip -c {path} | batchmill submit - …")
    raise UnreadableSource(f"{path} does not say by its name what it is; say --format {' or '.join(KINDS)}")


def _open(path: str) -> BinaryIO:
    if "://" in path:
        raise UnreadableSource(f"{path} is a URL, and only files are read: curl -s {path} | batchmill submit - …")
    try:
        # Not blocking, since opening a FIFO waits for its writer; regular files don't care.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise UnreadableSource(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UnreadableSource(f"{path} can't be opened: {reason}") from None
    # Asked of what was opened, not of the path, which may change in between.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableSource(f"{path} is not a regular file; for a pipe, use: … | batchmill submit -")
    return os.fdopen(descriptor, "rb", buffering=2**20)
