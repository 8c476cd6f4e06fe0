"""Export of a batch's results to a JSON lines, CSV, Parquet or NumPy file, which appears complete or not at all."""

import csv
import io
import os
import re
import secrets
import stat
import string
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO, TypeVar
from unicodedata import category

from models.documents import format_timestamp
from models.errors import UsageError
from models.privacy import private_files
from models.vectors import vector_json
from producer.results import npy, parquet
from producer.results.result_row import ResultRow
from producer.results.tabular import ColumnType, TabularLayout

# Spreadsheets treat cells that begin like this as formulas; plain numbers are safe.
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001
PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # without +, which a spreadsheet would drop
SAFE_STARTS = frozenset(string.ascii_letters + string.digits)
INVISIBLE_CATEGORIES = ("Z", "C")  # Unicode categories of spaces, controls and zero-width characters

BLOCK_LENGTH = 128 * 1024  # characters or bytes of a stream that are sent at once
Part = TypeVar("Part", str, bytes)

FORMAT_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".npy": "npy"}


def escape_formula(cell: str) -> str:
    """Return the cell, with a `'` before text that a spreadsheet would run, also after leading blanks."""
    if not cell or cell[0] in SAFE_STARTS:
        return cell
    start = next(
        (i for i, character in enumerate(cell) if category(character)[0] not in INVISIBLE_CATEGORIES), len(cell)
    )
    is_formula = cell.startswith(FORMULA_STARTS, start) and not PLAIN_NUMBER.fullmatch(cell, start)
    return f"'{cell}" if is_formula or cell[0] in "\t\r\n" else cell


def write_file(
    file_format: str, path: Path, rows: Iterable[ResultRow], make_layout: Callable[[], TabularLayout]
) -> int:
    """Write a file and return its number of rows; `make_layout` is called only for formats with columns."""
    if file_format == "jsonl":
        return write_jsonl(path, rows)
    if file_format == "csv":
        return write_csv(path, rows, make_layout())
    return write_parquet(path, rows, make_layout())


def write_jsonl(path: Path, rows: Iterable[ResultRow]) -> int:
    """Write JSON lines and return their number."""
    count = 0
    with _atomic_writer(path) as file, _text_writer(file) as lines:
        for row in rows:
            lines.write(row.json_line())
            count += 1
    return count


def write_csv(path: Path, rows: Iterable[ResultRow], layout: TabularLayout) -> int:
    """Write CSV with a header and return the number of rows after it."""
    count = -1  # for the header
    with _atomic_writer(path) as file, _text_writer(file) as lines:
        for line in iter_csv(rows, layout):
            lines.write(line)
            count += 1
    return count


class _Echo:
    """A file that only returns what is written, so that a CSV writer returns its line."""

    def write(self, line: str) -> str:
        return line


def iter_csv(rows: Iterable[ResultRow], layout: TabularLayout) -> Iterator[str]:
    """Yield the header and the rows as lines of CSV."""
    writer: Any = csv.writer(_Echo(), lineterminator="\n")
    yield writer.writerow([escape_formula(name) for name in layout.column_names])
    yield from map(writer.writerow, map(make_csv_formatter(layout), rows))


def join_lines(lines: Iterable[str]) -> Iterator[bytes]:
    """Yield the lines as larger blocks, which are quicker to send."""
    for block in _blocks(lines):
        yield "".join(block).encode()


def join_parts(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield small parts as larger blocks."""
    return map(b"".join, _blocks(parts))


def _blocks(parts: Iterable[Part]) -> Iterator[list[Part]]:
    block: list[Part] = []
    length = 0
    for part in parts:
        block.append(part)
        length += len(part)
        if length >= BLOCK_LENGTH:
            yield block
            block, length = [], 0
    if block:
        yield block


def write_parquet(path: Path, rows: Iterable[ResultRow], layout: TabularLayout) -> int:
    """Write Parquet with typed columns and return the number of rows; raises UsageError without pyarrow."""
    parquet.require_pyarrow()
    with _atomic_writer(path) as file:
        return parquet.write(file, rows, layout)


def write_npy(path: Path, rows: Iterable[ResultRow], row_count: int, dimensions: int) -> int:
    """Write vectors as one matrix with a row for each job, and return how many have one; see `npy.write`."""
    with _atomic_writer(path) as file:
        return npy.write(file, rows, row_count, dimensions)


def check_target(path: Path, file_format: str | None = None) -> str:
    """Return the format, by default the one that the path's suffix names: `jsonl`, `csv`, `parquet` or `npy`.

    Raises UsageError when the suffix is another, or the path can't be written.
    """
    file_format = file_format or FORMAT_BY_SUFFIX.get(path.suffix.lower())
    if file_format is None:
        raise UsageError(f"the name of {path} does not show its format; call it .jsonl, .csv, .parquet or .npy")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise UsageError(f"{path} is not a regular file; leave -o out to write to standard output")
    if not path.resolve().parent.is_dir():
        raise UsageError(f"there is no folder {path.resolve().parent}; make it first")
    if file_format == "parquet":
        parquet.require_pyarrow()
    return file_format


def make_csv_formatter(layout: TabularLayout) -> Callable[[ResultRow], list[Any]]:
    """Return a function that formats a row in the header's order, safe to open in a spreadsheet."""
    types = [column_type for _, column_type in layout.columns]
    text_indexes = [i for i, column_type in enumerate(types) if column_type in (ColumnType.TEXT, ColumnType.JSON)]
    vector_indexes = [i for i, column_type in enumerate(types) if column_type is ColumnType.VECTOR]
    timestamp_indexes = [i for i, column_type in enumerate(types) if column_type is ColumnType.TIMESTAMP]

    def to_cells(row: ResultRow) -> list[Any]:
        cells = layout.row_values(row)
        for index in text_indexes:
            if (cell := cells[index]) and cell[0] not in SAFE_STARTS:
                cells[index] = escape_formula(cell)
        for index in vector_indexes:
            cells[index] = cells[index] and vector_json(cells[index])
        for index in timestamp_indexes:
            cells[index] = format_timestamp(cells[index])
        return cells

    return to_cells


@contextmanager
def _text_writer(file: IO[bytes]) -> Iterator[TextIO]:
    lines = io.TextIOWrapper(file, encoding="utf-8", newline="")
    yield lines
    lines.flush()
    lines.detach()  # leaves the file open for its opener to close


@contextmanager
def _atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that replaces the path once it is complete and on disk; until then the old file stays."""
    path = path.resolve()  # replaces the target of a symbolic link, and keeps the link
    # The name is random, so that nobody else can have placed a file or a link there.
    part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.part")
    is_created = False
    try:
        with os.fdopen(private_files.create_exclusive(part, 0o666), "wb") as file:
            is_created = True
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
        if is_created:
            part.unlink(missing_ok=True)


def _copy_ownership_and_mode(descriptor: int, path: Path, mode: int) -> None:
    """Copy the owner, group and mode of the file to be replaced, as far as permitted; without one, set `mode`."""
    with suppress(FileNotFoundError):
        replaced = path.stat()
        group = _group_of(replaced)
        mode = stat.S_IMODE(replaced.st_mode) & 0o777
        with suppress(PermissionError):
            os.fchown(descriptor, -1, group)
        with suppress(PermissionError):
            os.fchown(descriptor, replaced.st_uid, -1)
        if os.fstat(descriptor).st_gid != group:
            mode &= ~0o070  # our own group must not get the rights of the other
    os.fchmod(descriptor, mode)


def _group_of(status: os.stat_result) -> int:
    return status.st_gid
