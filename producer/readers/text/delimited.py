"""Delimited text is CSV or TSV, with a header, or with names that are given to its columns.

Excel writes CSV with semicolons where people write numbers with commas, so a header shows which of them a file has.
"""

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from models.errors import UnreadableSource
from producer.readers import given_names
from producer.readers.column_mapping import WHOLE_ROW, ColumnMapping, check_unique
from producer.readers.limits import MAX_ROW_BYTES, ROW_TOO_LARGE, ROW_TOO_LONG_MESSAGE, Meter
from producer.readers.rows import Problem
from producer.readers.text import text_lines
from producer.readers.text.header_check import find_doubt

CSV_OPEN_QUOTE, CSV_LARGE_FIELD = "unexpected end of data", "field larger"
MAX_FIELD_CHARACTERS = 2 * 2**20  # characters, of which the csv module takes four bytes each

# Our messages for the csv module's, by a part of its text.
CSV_ERROR_MESSAGES = {
    CSV_OPEN_QUOTE: "has a quote that is never closed; close it, or double it if it belongs to the text",
    "expected after": "goes on after a closing quote; double a quote that belongs to the text",
    "new-line character": "has a carriage return outside quotes; save the file with ordinary line ends",
    CSV_LARGE_FIELD: f"has a field of more than {MAX_FIELD_CHARACTERS:,} characters; shorten it",
}
UNCLOSED_QUOTE_MESSAGE = f"begins a row of more than {MAX_ROW_BYTES // 2**20} MiB; close its quote"

MAX_CELLS = 2**17  # in one record, because each is a Python object
TOO_MANY_CELLS_MESSAGE = f"has more than {MAX_CELLS:,} cells; leave columns out"

UNIQUE_ADVICE = "rename one, or if line 1 is data, {}"
MAX_NAMES_LISTED = 5  # in a message about their number
QUOTED_TEXT = re.compile('"[^"]*"')

COMMA, SEMICOLON = ",", ";"
ANY_COLUMNS = ColumnMapping((), (), is_id_required=False, keeps_all=True)

# Delimiters that a header may have instead, and the advice then.
OTHER_DELIMITERS = {
    SEMICOLON: "seems to have semicolons between its cells; name its format: csv",
    "\t": "seems to have tabs between its cells; name its format: tsv",
    "|": "seems to have bars between its cells; save it with commas",
}
LATE_HEADER = "seems to have semicolons between its cells; put the whole header into line 1"


class DelimitedReader:
    """Reads a table row by row; its `header` is read at once.

    columns: may have the header, where the file has none, and the advice for messages
    """

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        delimiter: str,
        meter: Meter | None = None,
        columns: ColumnMapping = ANY_COLUMNS,
    ) -> None:
        self._name, self._columns = name, columns
        numbered_lines = text_lines.read_lines(stream, name, meter)
        if (first := next(numbered_lines, None)) is not None:
            numbered_lines = chain([first], numbered_lines)
            # A single column has no delimiter, so semicolons belong to its text.
            if delimiter == COMMA and len(columns.header) != 1 and _has_semicolons(first[1]):
                delimiter = SEMICOLON
        self._delimiter = delimiter
        self._lines = _BoundedLines(numbered_lines, delimiter)
        csv.field_size_limit(MAX_FIELD_CHARACTERS)  # for the whole process; 128 KiB by default
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
        self.header = list(columns.header) or self._read_header(delimiter)
        self._rows = self._parse_rows()

    def find_doubt(self) -> str | None:
        """A sentence if the header looks like a row of data, by the row after it; None = it looks like names.

        Raises UnreadableSource if names are given, and the first row has another number of cells.
        """
        first = next(self._rows, None)
        if first is None:
            return None
        self._rows = chain([first], self._rows)
        number, cells = first
        if isinstance(cells, Problem):
            return None
        if self._columns.header:
            return self._compare_names(number, cells)
        return find_doubt(self.header, cells, self._columns.advice.header)

    def _compare_names(self, number: int, cells: list[str]) -> str | None:
        """A sentence if the first row has the names that are given; raises UnreadableSource if their number differs."""
        names = self.header
        if len(cells) != len(names):
            if len(cells) == 1:
                self._reject_other_delimiter(self._delimiter)
            raise UnreadableSource(
                f"{self._name} has {_count(len(cells), 'cell')} in line {number}, and "
                f"{_count(len(names), 'column name')} ({_join_names(names)}); name each column",
                param=given_names.PARAM,
            )
        if [cell.strip() for cell in cells] == names:
            return "the first line has the names of the columns, and is read as a row; if it is a header, name none"
        return None

    def records(self) -> Iterator[tuple[int, dict[str, str]] | Problem]:
        """Each row as a dictionary, with the number of its first line; blank lines are skipped."""
        header, width = self.header, len(self.header)
        for number, cells in self._rows:
            if isinstance(cells, Problem):
                yield cells
            elif len(cells) != width:
                than = "there are column names" if self._columns.header else "the header"
                message = f"has another number of cells than {than}: {len(cells)} instead of {width}"
                yield Problem(number, message, raw_input={WHOLE_ROW: cells})
            else:
                yield number, dict(zip(header, cells, strict=True))

    def _read_header(self, delimiter: str) -> list[str]:
        for _, cells in self._parse_rows():
            if isinstance(cells, Problem):
                self._reject_other_delimiter(delimiter)
                raise UnreadableSource(f"{self._name}, line {cells.location} {cells.message}")
            header = [cell.strip() for cell in cells]
            if len(header) == 1:
                self._reject_other_delimiter(delimiter)
            check_unique(self._name, header, UNIQUE_ADVICE.format(self._columns.advice.header))
            return header
        return []

    def _reject_other_delimiter(self, delimiter: str) -> None:
        """Raise UnreadableSource if the header's line has another delimiter only."""
        line = QUOTED_TEXT.sub('""', self._lines.first_line)
        for other, sentence in OTHER_DELIMITERS.items():
            if delimiter not in line and other in line:
                is_late = delimiter == COMMA and other == SEMICOLON
                raise UnreadableSource(f"{self._name} {LATE_HEADER if is_late else sentence}")

    def _parse_rows(self) -> Iterator[tuple[int, list[str] | Problem]]:
        """Each row's cells, or its problem.

        A quote that is not closed within the limit of a record is a problem of its line only: reading continues with
        the next line.
        """
        lines = self._lines
        while True:
            first_line = lines.begin_record()
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except _RecordTooLarge as error:
                kept = lines.keep_record()
                lines.rewind_record()
                yield first_line, Problem(first_line, str(error), ROW_TOO_LARGE, raw_input=kept)
            except csv.Error as error:
                kept = lines.keep_record()
                yield first_line, self._problem_for(first_line, error)._replace(raw_input=kept)
            else:
                if lines.problem:
                    yield first_line, lines.problem._replace(raw_input=lines.keep_record())
                elif cells:
                    yield first_line, cells

    def _problem_for(self, line_number: int, error: csv.Error) -> Problem:
        if CSV_LARGE_FIELD in str(error):
            message = _describe_error(error) if self._lines.skip_record() else UNCLOSED_QUOTE_MESSAGE
            return Problem(line_number, message, ROW_TOO_LARGE)
        if CSV_OPEN_QUOTE in str(error):
            self._lines.rewind_record()
        return Problem(line_number, _describe_error(error))


def _has_semicolons(header_line: bytes) -> bool:
    """Return whether a header's line has semicolons between its cells, and no commas."""
    line = header_line.decode(errors="replace")
    if line.count('"') % 2:  # it goes on in the next line
        return False
    line = QUOTED_TEXT.sub('""', line)
    return SEMICOLON in line and COMMA not in line


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _join_names(names: list[str]) -> str:
    shown = [repr(name[:40])[1:-1] for name in names[:MAX_NAMES_LISTED]]
    return ", ".join(shown) + (", …" if len(names) > MAX_NAMES_LISTED else "")


def _describe_error(error: csv.Error) -> str:
    messages = (message for part, message in CSV_ERROR_MESSAGES.items() if part in str(error))
    return next(messages, "is not CSV; check its quotes")


class _RecordTooLarge(Exception):
    """A record over its limit."""


class _BoundedLines:
    """The decoded lines for the csv module, limited in size for each record."""

    def __init__(self, numbered_lines: Iterator[tuple[int, bytes]], delimiter: str) -> None:
        self._lines = numbered_lines
        self._delimiter = delimiter.encode()
        quoted = rb'"[^"]*+(?:""[^"]*+)*+"?'
        self._quoted_cell = re.compile(b"(?<![^" + self._delimiter + b"])" + quoted)
        self._cell_count = 0  # in the record so far
        self._record_bytes: bytes | bytearray = b""  # its lines so far: mostly one
        self._first_line_number = 0  # the record's first
        self.line_number = 0
        self.problem: Problem | None = None  # set if the record is not UTF-8

    @property
    def first_line(self) -> str:
        """The record's first line."""
        return self._record_bytes[: self._record_bytes.find(b"\n") + 1 or None].decode(errors="replace")

    def keep_record(self) -> dict[str, str]:
        """The start of the record's first line, as the input of an invalid row."""
        end = self._record_bytes.find(b"\n") + 1 or None
        return text_lines.keep_line(bytes(self._record_bytes[:end]))

    def begin_record(self) -> int:
        """Begin a new record; returns the number of its first line."""
        self._record_bytes = b""
        self._cell_count, self.problem = 0, None
        self._first_line_number = self.line_number + 1
        return self._first_line_number

    def rewind_record(self) -> None:
        """Read the record's lines again, except the first."""
        if self.line_number > self._first_line_number:
            record = io.BytesIO(bytes(self._record_bytes))
            self._record_bytes = b""
            record.readline()
            self.line_number = self._first_line_number
            self._lines = chain(enumerate(record, start=self._first_line_number + 1), self._lines)

    def skip_record(self) -> bool:
        """Skip to the record's end; returns False, after its first line, if it exceeds its limit."""
        is_in_quotes = self._record_bytes.count(b'"') % 2
        while is_in_quotes:
            line = self._next_line()
            if line is None or len(self._record_bytes) > MAX_ROW_BYTES:
                self.rewind_record()
                return False
            is_in_quotes ^= line.count(b'"') % 2
        return True

    def __iter__(self) -> "_BoundedLines":
        return self

    def __next__(self) -> str:
        line = self._next_line()
        if line is None:
            raise StopIteration
        if len(self._record_bytes) > MAX_ROW_BYTES:
            # Most likely an open quote, which would take in the rest of the file.
            raise _RecordTooLarge(
                ROW_TOO_LONG_MESSAGE if self.line_number == self._first_line_number else UNCLOSED_QUOTE_MESSAGE
            )
        if text_lines.is_too_long_decoded(line):
            raise _RecordTooLarge(text_lines.DECODED_TOO_LONG_MESSAGE)
        self._count_cells(line)
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.problem = Problem(self.line_number, text_lines.not_utf8_message(error))
            return line.decode(errors="replace")  # so that the record's end is still found

    def _next_line(self) -> bytes | None:
        numbered = next(self._lines, None)
        if numbered is None:
            return None
        self.line_number, line = numbered
        if self.line_number == self._first_line_number:
            self._record_bytes = line
        else:
            if isinstance(self._record_bytes, bytes):
                self._record_bytes = bytearray(self._record_bytes)
            self._record_bytes += line
        return line

    def _count_cells(self, line: bytes) -> None:
        """Raise _RecordTooLarge if the record has more than MAX_CELLS; delimiters in quotes don't count."""
        cells = line.count(self._delimiter)
        is_continuation = self.line_number > self._first_line_number
        if cells and (is_continuation or self._cell_count + cells > MAX_CELLS):
            # The csv module reads another line of a record only within quotes.
            cells = self._quoted_cell.sub(b"", b'"' + line if is_continuation else line).count(self._delimiter)
        self._cell_count += cells
        if self._cell_count >= MAX_CELLS:
            raise _RecordTooLarge(TOO_MANY_CELLS_MESSAGE)
