"""Delimited text: CSV and TSV with a header."""

import csv
from collections.abc import Iterator
from typing import BinaryIO

from models.errors import UnreadableSource
from producer.readers import lines
from producer.readers.rows import Problem

# What the csv module says, by a part of it, and what we say.
SENTENCES = {
    "unexpected end of data": "has a quote that is never closed; close it, or double it where it belongs to the text",
    "expected after": "goes on after a closing quote; double a quote that belongs to the text",
    "new-line character": "has a carriage return outside quotes; save the file with ordinary line ends",
    "field larger": f"has a field of more than {lines.LONGEST_LINE:,} characters; shorten it",
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
            if isinstance(cells, str):
                yield Problem(number, cells)
            elif len(cells) != width:
                yield Problem(number, f"has not as many cells as the header: {len(cells)} instead of {width}")
            else:
                yield number, dict(zip(header, cells, strict=True))

    def _read_header(self, delimiter: str) -> list[str]:
        for number, cells in self._rows():
            if isinstance(cells, str):
                raise UnreadableSource(f"{self._name}, line {number} {cells}")
            header = [cell.strip() for cell in cells]
            if twice := next((name for name in header if name and header.count(name) > 1), None):
                raise UnreadableSource(f"{self._name} has two columns {twice[:40]!r}; rename one")
            if len(header) == 1 and delimiter == "," and ";" in header[0]:
                raise UnreadableSource(f"{self._name} seems to have semicolons between its cells; save it with commas")
            return header
        return []

    def _rows(self) -> Iterator[tuple[int, list[str] | str]]:
        """Each row's cells, or what is wrong with it."""
        while True:
            first = self._text.begin()
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except UnicodeDecodeError as error:
                yield self._text.number, lines.not_utf8(error)
            except csv.Error as error:
                known = (sentence for part, sentence in SENTENCES.items() if part in str(error))
                yield first, next(known, "is not CSV; check its quotes")
            else:
                if cells:
                    yield first, cells


class _Text:
    """The decoded lines that the csv module asks for, bounded for each record."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._name = name
        self._lines = lines.read(stream, name)
        self._first = 1
        self._held = 0
        self.number = 0

    def begin(self) -> int:
        """A new record begins; returns on which line."""
        self._first, self._held = self.number + 1, 0
        return self._first

    def __iter__(self) -> "_Text":
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        self._held += len(line)
        if self._held > lines.LONGEST_LINE:
            # Most likely an open quote, which swallows the rest of the file.
            limit = f"{lines.LONGEST_LINE // 2**20} MiB"
            raise UnreadableSource(
                f"{self._name}, line {self._first} begins a row of more than {limit}; close its quote"
            )
        return line.decode()
