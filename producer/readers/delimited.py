"""Delimited text: CSV and TSV with a header."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from models.errors import UnreadableSource
from producer.readers import text_lines
from producer.readers.limits import LONGEST_ROW, TOO_LARGE, TOO_LONG, Meter
from producer.readers.rows import Problem

OPEN_QUOTE, LARGE_FIELD = "unexpected end of data", "field larger"
LONGEST_FIELD = 2 * 2**20  # characters, of which the csv module takes four bytes each

# What the csv module says, by a part of it, and what we say.
SENTENCES = {
    OPEN_QUOTE: "has a quote that is never closed; close it, or double it where it belongs to the text",
    "expected after": "goes on after a closing quote; double a quote that belongs to the text",
    "new-line character": "has a carriage return outside quotes; save the file with ordinary line ends",
    LARGE_FIELD: f"has a field of more than {LONGEST_FIELD:,} characters; shorten it",
}
OPEN_ROW = f"begins a row of more than {LONGEST_ROW // 2**20} MiB; close its quote"

MOST_CELLS = 2**17  # of a record, as Python objects beside the texts in them
TOO_MANY = f"has more than {MOST_CELLS:,} cells; leave columns out"

QUOTED = re.compile('"[^"]*"')

# What a header's cells may be held apart by instead, and what to do then.
OTHERWISE = {
    ";": "seems to have semicolons between its cells; save it with commas",
    "\t": "seems to have tabs between its cells; say so: --format tsv",
    "|": "seems to have bars between its cells; save it with commas",
}


class Table:
    """A table read row by row; `header` is there from the start."""

    def __init__(self, stream: BinaryIO, name: str, delimiter: str, meter: Meter | None = None) -> None:
        self._name = name
        self._text = _Text(text_lines.read(stream, name, meter), delimiter)
        csv.field_size_limit(LONGEST_FIELD)  # the whole process', and 128 KiB by default
        self._reader = csv.reader(self._text, delimiter=delimiter, strict=True)
        self.header = self._read_header(delimiter)

    def records(self) -> Iterator[tuple[int, dict[str, str]] | Problem]:
        """Each row as a dictionary, with the number of the line that it begins on; blank lines are skipped."""
        header, width = self.header, len(self.header)
        for number, cells in self._rows():
            if isinstance(cells, Problem):
                yield cells
            elif len(cells) != width:
                yield Problem(number, f"has not as many cells as the header: {len(cells)} instead of {width}")
            else:
                yield number, dict(zip(header, cells, strict=True))

    def _read_header(self, delimiter: str) -> list[str]:
        for _, cells in self._rows():
            if isinstance(cells, Problem):
                self._refuse_other_delimiter(delimiter)
                raise UnreadableSource(f"{self._name}, line {cells.where} {cells.sentence}")
            header = [cell.strip() for cell in cells]
            if len(header) == 1:
                self._refuse_other_delimiter(delimiter)
            if twice := next((name for name, count in Counter(header).items() if name and count > 1), None):
                raise UnreadableSource(f"{self._name} has two columns {twice[:40]!r}; rename one")
            return header
        return []

    def _refuse_other_delimiter(self, delimiter: str) -> None:
        """Raise UnreadableSource where the header's line has none of its delimiters, but another's."""
        line = QUOTED.sub('""', self._text.begun_with)
        for other, sentence in OTHERWISE.items():
            if delimiter not in line and other in line:
                raise UnreadableSource(f"{self._name} {sentence}")

    def _rows(self) -> Iterator[tuple[int, list[str] | Problem]]:
        """Each row's cells, or what is wrong with it.

        A quote that is not closed, or not within the bound of a record, costs the line that it opens on and no other:
        reading goes on with the next one.
        """
        text = self._text
        while True:
            first = text.begin()
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except _TooLarge as error:
                text.go_back()
                yield first, Problem(first, str(error), TOO_LARGE)
            except csv.Error as error:
                yield first, self._broken(first, error)
            else:
                if cells or text.problem:
                    yield first, text.problem or cells

    def _broken(self, first: int, error: csv.Error) -> Problem:
        if LARGE_FIELD in str(error):
            return Problem(first, _said(error) if self._text.pass_over() else OPEN_ROW, TOO_LARGE)
        if OPEN_QUOTE in str(error):
            self._text.go_back()
        return Problem(first, _said(error))


def _said(error: csv.Error) -> str:
    known = (sentence for part, sentence in SENTENCES.items() if part in str(error))
    return next(known, "is not CSV; check its quotes")


class _TooLarge(Exception):
    """A record over its bound."""


class _Text:
    """The decoded lines that the csv module asks for, bounded for each record."""

    def __init__(self, numbered: Iterator[tuple[int, bytes]], delimiter: str) -> None:
        self._lines = numbered
        self._delimiter = delimiter.encode()
        quoted = rb'"[^"]*+(?:""[^"]*+)*+"?'
        self._quoted = re.compile(b"(?<![^" + self._delimiter + b"])" + quoted)
        self._cells = 0  # of the record so far
        self._record: bytes | bytearray = b""  # its lines so far: mostly one
        self._first = 0  # of them, by its number
        self.number = 0
        self.problem: Problem | None = None  # of the record: it is not UTF-8

    @property
    def begun_with(self) -> str:
        """The record's first line."""
        return self._record[: self._record.find(b"\n") + 1 or None].decode(errors="replace")

    def begin(self) -> int:
        """A new record begins; returns on which line."""
        self._record = b""
        self._cells, self.problem = 0, None
        self._first = self.number + 1
        return self._first

    def go_back(self) -> None:
        """Read the record's lines again, but the first."""
        if self.number > self._first:
            again = io.BytesIO(bytes(self._record))
            self._record = b""
            again.readline()
            self.number = self._first
            self._lines = chain(enumerate(again, start=self._first + 1), self._lines)

    def pass_over(self) -> bool:
        """Read on to the record's end; False where it is not within its bound: its first line was all of it."""
        is_open = self._record.count(b'"') % 2
        while is_open:
            line = self._next_line()
            if line is None or len(self._record) > LONGEST_ROW:
                self.go_back()
                return False
            is_open ^= line.count(b'"') % 2
        return True

    def __iter__(self) -> "_Text":
        return self

    def __next__(self) -> str:
        line = self._next_line()
        if line is None:
            raise StopIteration
        if len(self._record) > LONGEST_ROW:
            # Most likely an open quote, which swallows the rest of the file.
            raise _TooLarge(TOO_LONG if self.number == self._first else OPEN_ROW)
        if text_lines.is_too_wide(line):
            raise _TooLarge(text_lines.TOO_WIDE)
        self._count_cells(line)
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.problem = Problem(self.number, text_lines.not_utf8(error))
            return line.decode(errors="replace")  # so that the record's end is found all the same

    def _next_line(self) -> bytes | None:
        numbered = next(self._lines, None)
        if numbered is None:
            return None
        self.number, line = numbered
        if self.number == self._first:
            self._record = line
        else:
            if isinstance(self._record, bytes):
                self._record = bytearray(self._record)
            self._record += line
        return line

    def _count_cells(self, line: bytes) -> None:
        """Raise _TooLarge where the record has more than MOST_CELLS; what is in quotes separates none."""
        cells = line.count(self._delimiter)
        goes_on = self.number > self._first
        if cells and (goes_on or self._cells + cells > MOST_CELLS):
            # The csv module asks for a further line of a record only within a quote.
            cells = self._quoted.sub(b"", b'"' + line if goes_on else line).count(self._delimiter)
        self._cells += cells
        if self._cells >= MOST_CELLS:
            raise _TooLarge(TOO_MANY)
