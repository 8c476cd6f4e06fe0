"""Delimited text: CSV and TSV with a header."""

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from models.errors import UnreadableSource
from producer.readers import lines
from producer.readers.rows import Problem

OPEN_QUOTE = "unexpected end of data"

# What the csv module says, by a part of it, and what we say.
SENTENCES = {
    OPEN_QUOTE: "has a quote that is never closed; close it, or double it where it belongs to the text",
    "expected after": "goes on after a closing quote; double a quote that belongs to the text",
    "new-line character": "has a carriage return outside quotes; save the file with ordinary line ends",
    "field larger": f"has a field of more than {lines.LONGEST_LINE:,} characters; shorten it",
}
TOO_LARGE = f"begins a row of more than {lines.LONGEST_LINE // 2**20} MiB; close its quote"

# What a header's cells may be held apart by instead, and what to do then.
OTHERWISE = {
    ";": "seems to have semicolons between its cells; save it with commas",
    "\t": "seems to have tabs between its cells; say so: --format tsv",
    "|": "seems to have bars between its cells; save it with commas",
}


class Table:
    """A table read row by row; `header` is there from the start."""

    def __init__(self, stream: BinaryIO, name: str, delimiter: str) -> None:
        self._name = name
        self._text = _Text(stream, name)
        # The limit is the whole process' and 128 KiB by default; `_Text` bounds each record by itself.
        csv.field_size_limit(max(csv.field_size_limit(), lines.LONGEST_LINE))
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
        line = self._text.begun_with
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
                yield first, Problem(first, str(error), lines.TOO_LARGE)
            except csv.Error as error:
                if OPEN_QUOTE in str(error):
                    text.go_back()
                yield first, Problem(first, _said(error))
            else:
                if cells or text.problem:
                    yield first, text.problem or cells


def _said(error: csv.Error) -> str:
    known = (sentence for part, sentence in SENTENCES.items() if part in str(error))
    return next(known, "is not CSV; check its quotes")


class _TooLarge(Exception):
    """A record over its bound."""


class _Text:
    """The decoded lines that the csv module asks for, bounded for each record."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._lines: Iterator[tuple[int, bytes]] = lines.read(stream, name)
        self._record: list[tuple[int, bytes]] = []  # its lines so far
        self._held = 0
        self.number = 0
        self.problem: Problem | None = None  # of the record: it is not UTF-8

    @property
    def begun_with(self) -> str:
        """The record's first line."""
        return self._record[0][1].decode(errors="replace") if self._record else ""

    def begin(self) -> int:
        """A new record begins; returns on which line."""
        self._record.clear()
        self._held, self.problem = 0, None
        return self.number + 1

    def go_back(self) -> None:
        """Read the record's lines again, but the first."""
        if len(self._record) > 1:
            self.number = self._record[0][0]
            self._lines = chain(self._record[1:], self._lines)

    def __iter__(self) -> "_Text":
        return self

    def __next__(self) -> str:
        numbered = next(self._lines)
        self.number, line = numbered
        self._record.append(numbered)
        self._held += len(line)
        if self._held > lines.LONGEST_LINE:
            # Most likely an open quote, which swallows the rest of the file.
            raise _TooLarge(lines.TOO_LONG if len(self._record) == 1 else TOO_LARGE)
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.problem = Problem(self.number, lines.not_utf8(error))
            return line.decode(errors="replace")  # so that the record's end is found all the same
