"""Large pages: the texts of a column chunk whose pages are too large to be unpacked in memory, read one by one.

Common writers cut a page after a thousand values only, so long texts make pages of a gigabyte. A dictionary goes to
disk, and its values are fetched as they are named. Only flat columns of texts or bytes have such pages in earnest.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, BinaryIO

from producer.readers.limits import LONGEST_ROW, TOO_LONG, Meter
from producer.readers.parquet.decompression import BrokenBlock, Span, Stream, unpacked, varint
from producer.readers.parquet.pages import BY_DICTIONARY, DATA_V2, DICTIONARY, PLAIN, Page, pages
from producer.readers.spool import spool
from producer.readers.storable import Unreadable

MOST_LEVEL_BYTES = 2**22  # that say which of a page's values are null: a bit for each, at the most
MOST_ENTRIES = 2**21  # of a dictionary, eight bytes each beside what is on disk
GROUPS = 2**12  # of eight packed numbers at once
TOO_LONG_VALUE = Unreadable(TOO_LONG)


@dataclass(frozen=True, slots=True)
class LargeColumn:
    """A column chunk: where its pages are, how they are packed, and whether values may be null."""

    name: str
    start: int
    end: int
    codec: str
    is_nullable: bool
    is_text: bool
    whole_bytes: int  # of a page, packed and unpacked, that may be unpacked whole

    def values(self, file: BinaryIO, meter: Meter, pyarrow: Any) -> Iterator[object]:
        """Each value: text, bytes, None or Unreadable. Raises BrokenBlock, BrokenHeader and SourceTooLarge."""
        dictionary = None
        with spool() as disk:
            for page in pages(file, self.start, self.end):
                if page.kind == DICTIONARY:
                    body = self._body(file, page, pyarrow)
                    dictionary = _Dictionary(disk, body, page, meter, self.name)
                else:
                    yield from map(self._fitted, self._of_page(file, page, dictionary, pyarrow))

    def _of_page(self, file: BinaryIO, page: Page, dictionary: "_Dictionary | None", pyarrow: Any) -> Iterator[object]:
        body = self._body(file, page, pyarrow)
        there: Iterator[int] = repeat(1, page.values)
        if page.kind == DATA_V2:
            if self.is_nullable:
                there = _levels(Span(file, page.start, page.level_bytes), page)
        elif self.is_nullable:
            size = int.from_bytes(body.take(4), "little")
            there = _levels(_Held(body.take(_bounded(size))), page)
        values = self._present(body, page, dictionary)
        for is_there in there:
            yield next(values) if is_there else None

    def _body(self, file: BinaryIO, page: Page, pyarrow: Any) -> Stream:
        """A page's content behind what is never packed."""
        span = Span(file, page.start + page.level_bytes, page.packed - page.level_bytes)
        codec = self.codec if page.is_packed else "UNCOMPRESSED"
        return unpacked(span, codec, pyarrow, page.unpacked - page.level_bytes, self.whole_bytes)

    def _present(self, body: Stream, page: Page, dictionary: "_Dictionary | None") -> Iterator[object]:
        if page.encoding == PLAIN:
            for _ in range(page.values):
                yield _value(body)
        elif page.encoding in BY_DICTIONARY and dictionary is not None:
            width = body.take(1)[0]
            for number in _numbers(body, width, page.values):
                yield dictionary[number]
        else:
            raise BrokenBlock("its encoding is not read in so large a page")

    def _fitted(self, value: object) -> object:
        if not self.is_text or not isinstance(value, bytes):
            return value
        try:
            return value.decode()
        except UnicodeDecodeError:
            return Unreadable("has text that is not UTF-8; write the column again as text")


class _Dictionary:
    """A dictionary on disk."""

    def __init__(self, disk: BinaryIO, body: Stream, page: Page, meter: Meter, where: str) -> None:
        if page.values > MOST_ENTRIES:
            raise BrokenBlock(f"its dictionary has more than {MOST_ENTRIES:,} values")
        disk.seek(0)
        disk.truncate()
        self._disk = disk
        self._places = array("q", [0])
        self._large: set[int] = set()
        for number in range(page.values):
            value = _value(body)
            if isinstance(value, bytes):
                meter.add(len(value), where)
                disk.write(value)
                self._places.append(self._places[-1] + len(value))
            else:
                self._large.add(number)
                self._places.append(self._places[-1])

    def __getitem__(self, number: int) -> object:
        if number >= len(self._places) - 1:
            raise BrokenBlock("it names a value that its dictionary has not")
        if number in self._large:
            return TOO_LONG_VALUE
        start, end = self._places[number], self._places[number + 1]
        self._disk.seek(start)
        return self._disk.read(end - start)


class _Held:
    """Bytes that are in memory, to be read as a span is."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int) -> bytes:
        """At most so many bytes more."""
        data, self._data = self._data[:size], self._data[size:]
        return data


def _value(body: Stream) -> object:
    size = int.from_bytes(body.take(4), "little")
    if size <= LONGEST_ROW:
        return body.take(size)
    body.skip(size)
    return TOO_LONG_VALUE


def _levels(source: Any, page: Page) -> Iterator[int]:
    _bounded(page.level_bytes)
    return _numbers(Stream(iter(lambda: source.read(GROUPS) or None, None)), 1, page.values)


def _bounded(size: int) -> int:
    if size > MOST_LEVEL_BYTES:
        raise BrokenBlock("it has too many values")
    return size


def _numbers(stream: Stream, width: int, count: int) -> Iterator[int]:
    """So many numbers of so many bits, in runs of equal ones and in packed groups of eight."""
    mask, size = (1 << width) - 1, (width + 7) // 8
    if width > 32:
        raise BrokenBlock("its numbers are too wide")
    while count > 0:
        head = varint(stream)
        if not head & 1:
            run = min(head >> 1, count)
            yield from repeat(int.from_bytes(stream.take(size), "little"), run)
            count -= run
            continue
        groups = head >> 1
        while groups > 0 and count > 0:
            some = min(groups, GROUPS)
            packed = stream.take(some * width)
            for group in range(some):
                eight = int.from_bytes(packed[group * width : (group + 1) * width], "little")
                for _ in range(min(8, count)):
                    yield eight & mask
                    eight >>= width
                count -= min(8, count)
            groups -= some
