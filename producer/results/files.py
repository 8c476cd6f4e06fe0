"""Exports: a batch's results as a JSON lines, CSV or Parquet file, whole or not at all."""

import csv
import io
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TextIO
from unicodedata import category

from models.errors import UsageError
from models.privacy import private_files
from producer.results import parquet
from producer.results.pages import ResultRow, format_timestamp
from producer.results.tabular import TabularLayout

# What makes a spreadsheet take a cell for a formula; a plain number is none.
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001
PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # with a + it is no longer what it was
INVISIBLE_CATEGORIES = ("Z", "C")  # Unicode's categories of blanks, controls and marks without width

FORMAT_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}


def escape_formula(cell: object) -> object:
    """The cell, with a `'` before text that a spreadsheet would run, which may skip blanks before it."""
    if not isinstance(cell, str) or not cell or (cell[0].isascii() and cell[0].isalnum()):
        return cell
    start = next(
        (i for i, character in enumerate(cell) if category(character)[0] not in INVISIBLE_CATEGORIES), len(cell)
    )
    begins = cell.startswith(FORMULA_STARTS, start) and not PLAIN_NUMBER.fullmatch(cell, start)
    return f"'{cell}" if begins or cell[0] in "\t\r\n" else cell


def jsonl_line(row: ResultRow, *, ascii_only: bool = False) -> str:
    """One row as a line of JSON, with its newline."""
    return json.dumps(row.as_dict(), ensure_ascii=ascii_only) + "\n"


def write_file(
    file_format: str, path: Path, rows: Iterable[ResultRow], make_layout: Callable[[], TabularLayout]
) -> int:
    """Write a file of this kind; returns how many rows it has. `sheet` is asked for where there are columns."""
    if file_format == "jsonl":
        return write_jsonl(path, rows)
    if file_format == "csv":
        return write_csv(path, rows, make_layout())
    return write_parquet(path, rows, make_layout())


def write_jsonl(path: Path, rows: Iterable[ResultRow]) -> int:
    """Write JSON lines; returns how many."""
    count = 0
    with _atomic_writer(path) as file, _text_writer(file) as lines:
        for row in rows:
            lines.write(jsonl_line(row))
            count += 1
    return count


def write_csv(path: Path, rows: Iterable[ResultRow], layout: TabularLayout) -> int:
    """Write CSV with a header; returns how many rows follow it."""
    count = 0
    with _atomic_writer(path) as file, _text_writer(file) as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow([escape_formula(name) for name in layout.column_names])
        for row in rows:
            writer.writerow(csv_cells(layout, row))
            count += 1
    return count


def write_parquet(path: Path, rows: Iterable[ResultRow], layout: TabularLayout) -> int:
    """Write Parquet with a type for each column; returns how many rows. Raises UsageError where pyarrow is missing."""
    parquet.require_pyarrow()
    with _atomic_writer(path) as file:
        return parquet.write(file, rows, layout)


def check_target(path: Path) -> str:
    """What a path asks for, `jsonl`, `csv` or `parquet`; raises UsageError when it can't be written."""
    kind = FORMAT_BY_SUFFIX.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path} does not say by its name what to write; call it .jsonl, .csv or .parquet")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise UsageError(f"{path} is not a regular file; leave -o out to write to standard output")
    if not path.resolve().parent.is_dir():
        raise UsageError(f"there is no folder {path.resolve().parent}; make it first")
    if kind == "parquet":
        parquet.require_pyarrow()
    return kind


def csv_cells(layout: TabularLayout, row: ResultRow) -> list[Any]:
    """One row of a CSV, in the header's order, safe to be opened in a spreadsheet."""
    return [
        escape_formula(value)
        if isinstance(value, str)
        else format_timestamp(value)
        if isinstance(value, datetime)
        else value
        for value in layout.row_values(row)
    ]


@contextmanager
def _text_writer(file: IO[bytes]) -> Iterator[TextIO]:
    lines = io.TextIOWrapper(file, encoding="utf-8", newline="")
    yield lines
    lines.flush()
    lines.detach()  # the file is its opener's to close


@contextmanager
def _atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the path's place once it is whole and on disk; before, whatever was there stays."""
    path = path.resolve()  # a link stays a link
    # Nobody else can have put a file or a link of that name there.
    part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.part")
    made = False
    try:
        with os.fdopen(private_files.create_exclusive(part, 0o666), "wb") as file:
            made = True
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # by the umask, as for any new file
            os.fchmod(file.fileno(), private_files.FILE_MODE)
            yield file
            file.flush()
            _copy_ownership_and_mode(file.fileno(), path, mode)
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from error
    finally:
        if made:
            part.unlink(missing_ok=True)


def _copy_ownership_and_mode(descriptor: int, path: Path, mode: int) -> None:
    """Give a file the owner, group and mode of the one that it is to replace, as far as may be; else this mode."""
    with suppress(FileNotFoundError):
        before = path.stat()
        group = _group_of(before)
        mode = stat.S_IMODE(before.st_mode) & 0o777
        with suppress(PermissionError):
            os.fchown(descriptor, -1, group)
        with suppress(PermissionError):
            os.fchown(descriptor, before.st_uid, -1)
        if os.fstat(descriptor).st_gid != group:
            mode &= ~0o070  # the group's rights are not for ours
    os.fchmod(descriptor, mode)


def _group_of(status: os.stat_result) -> int:
    return status.st_gid
