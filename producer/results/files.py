"""Export of a batch's results to a JSON lines, CSV, Parquet or NumPy file, which appears complete or not at all."""

import csv
import io
import re
import string
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO, TypeVar
from unicodedata import category

from models.documents import format_timestamp
from models.vectors import vector_json
from producer.results import target_file
from producer.results.formats import npy, parquet
from producer.results.result_row import ResultRow
from producer.results.tabular import ColumnType, TabularLayout
from producer.results.target_file import open_target

# Spreadsheets treat cells that begin like this as formulas; plain numbers are safe.
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001
PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # without +, which a spreadsheet would drop
SAFE_STARTS = frozenset(string.ascii_letters + string.digits)
INVISIBLE_CATEGORIES = ("Z", "C")  # Unicode categories of spaces, controls and zero-width characters

BLOCK_LENGTH = 128 * 1024  # characters or bytes of a stream that are sent at once
Part = TypeVar("Part", str, bytes)


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
    with open_target(path) as file, _text_writer(file) as lines:
        for row in rows:
            lines.write(row.json_line())
            count += 1
    return count


def write_csv(path: Path, rows: Iterable[ResultRow], layout: TabularLayout) -> int:
    """Write CSV with a header and return the number of rows after it."""
    count = -1  # for the header
    with open_target(path) as file, _text_writer(file) as lines:
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
    target_file.require_pyarrow()
    with open_target(path) as file:
        return parquet.write(file, rows, layout)


def write_npy(path: Path, rows: Iterable[ResultRow], row_count: int, dimensions: int) -> int:
    """Write vectors as one matrix with a row for each job, and return how many have one; see `npy.write`."""
    with open_target(path) as file:
        return npy.write(file, rows, row_count, dimensions)


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
