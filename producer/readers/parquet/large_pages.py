"""Large pages: the texts of a column chunk whose pages are too large to be unpacked in memory, read one by one.

Common writers cut a page after a thousand values only, so long texts make pages of a gigabyte. A dictionary goes to
disk, and its values are fetched as they are named. Only flat columns of texts or bytes have such pages in earnest.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, BinaryIO

from producer.readers.limits import MAX_ROW_BYTES, ROW_TOO_LONG_MESSAGE, Meter
from producer.readers.parquet.decompression import BrokenBlock, ByteStream, FileSpan, decompress, read_varint
from producer.readers.parquet.pages import DATA_PAGE_V2, DICTIONARY_ENCODINGS, DICTIONARY_PAGE, PLAIN, Page, read_pages
from producer.readers.spool import open_spool
from producer.readers.storable import UnreadableValue

MAX_LEVEL_BYTES = 2**22  # that say which of a page's values are null: a bit for each, at the most
MAX_DICTIONARY_ENTRIES = 2**21  # of a dictionary, eight bytes each beside what is on disk
MAX_GROUPS_AT_ONCE = 2**12  # of eight packed numbers at once
TOO_LONG_VALUE = UnreadableValue(ROW_TOO_LONG_MESSAGE)


@dataclass(frozen=True, slots=True)
class LargeColumn:
    """A column chunk: where its pages are, how they are packed, and whether values may be null."""

    column: str
    start: int
    end: int
    codec: str
    is_nullable: bool
    is_text: bool
    max_whole_bytes: int  # of a page, packed and unpacked, that may be unpacked whole

    def read_values(self, file: BinaryIO, meter: Meter, pyarrow: Any) -> Iterator[object]:
        """Each value: text, bytes, None or Unreadable. Raises BrokenBlock, BrokenHeader and SourceTooLarge."""
        dictionary = None
        with open_spool() as disk:
            for page in read_pages(file, self.start, self.end):
                if page.kind == DICTIONARY_PAGE:
                    body = self._page_body(file, page, pyarrow)
                    dictionary = _DiskDictionary(disk, body, page, meter, self.column)
                else:
                    yield from map(self._decode_text, self._page_values(file, page, dictionary, pyarrow))

    def _page_values(
        self, file: BinaryIO, page: Page, dictionary: "_DiskDictionary | None", pyarrow: Any
    ) -> Iterator[object]:
        body = self._page_body(file, page, pyarrow)
        there: Iterator[int] = repeat(1, page.value_count)
        if page.kind == DATA_PAGE_V2:
            if self.is_nullable:
                there = _read_levels(FileSpan(file, page.body_start, page.level_bytes), page)
        elif self.is_nullable:
            size = int.from_bytes(body.read_exactly(4), "little")
            there = _read_levels(_BytesReader(body.read_exactly(_check_level_bytes(size))), page)
        values = self._present_values(body, page, dictionary)
        for is_there in there:
            yield next(values) if is_there else None

    def _page_body(self, file: BinaryIO, page: Page, pyarrow: Any) -> ByteStream:
        """A page's content behind what is never packed."""
        span = FileSpan(file, page.body_start + page.level_bytes, page.compressed_bytes - page.level_bytes)
        codec = self.codec if page.is_compressed else "UNCOMPRESSED"
        return decompress(span, codec, pyarrow, page.uncompressed_bytes - page.level_bytes, self.max_whole_bytes)

    def _present_values(self, body: ByteStream, page: Page, dictionary: "_DiskDictionary | None") -> Iterator[object]:
        if page.encoding == PLAIN:
            for _ in range(page.value_count):
                yield _read_value(body)
        elif page.encoding in DICTIONARY_ENCODINGS and dictionary is not None:
            width = body.read_exactly(1)[0]
            for number in _decode_numbers(body, width, page.value_count):
                yield dictionary[number]
        else:
            raise BrokenBlock("its encoding is not read in so large a page")

    def _decode_text(self, value: object) -> object:
        if not self.is_text or not isinstance(value, bytes):
            return value
        try:
            return value.decode()
        except UnicodeDecodeError:
            return UnreadableValue("has text that is not UTF-8; write the column again as text")


class _DiskDictionary:
    """A dictionary on disk."""

    def __init__(self, disk: BinaryIO, body: ByteStream, page: Page, meter: Meter, column: str) -> None:
        if page.value_count > MAX_DICTIONARY_ENTRIES:
            raise BrokenBlock(f"its dictionary has more than {MAX_DICTIONARY_ENTRIES:,} values")
        disk.seek(0)
        disk.truncate()
        self._disk = disk
        self._offsets = array("q", [0])
        self._too_long: set[int] = set()
        for number in range(page.value_count):
            value = _read_value(body)
            if isinstance(value, bytes):
                meter.add(len(value), column)
                disk.write(value)
                self._offsets.append(self._offsets[-1] + len(value))
            else:
                self._too_long.add(number)
                self._offsets.append(self._offsets[-1])

    def __getitem__(self, number: int) -> object:
        if number >= len(self._offsets) - 1:
            raise BrokenBlock("it names a value that its dictionary has not")
        if number in self._too_long:
            return TOO_LONG_VALUE
        start, end = self._offsets[number], self._offsets[number + 1]
        self._disk.seek(start)
        return self._disk.read(end - start)


class _BytesReader:
    """Bytes that are in memory, to be read as a span is."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int) -> bytes:
        """At most so many bytes more."""
        data, self._data = self._data[:size], self._data[size:]
        return data


def _read_value(body: ByteStream) -> object:
    size = int.from_bytes(body.read_exactly(4), "little")
    if size <= MAX_ROW_BYTES:
        return body.read_exactly(size)
    body.skip(size)
    return TOO_LONG_VALUE


def _read_levels(source: Any, page: Page) -> Iterator[int]:
    _check_level_bytes(page.level_bytes)
    return _decode_numbers(ByteStream(iter(lambda: source.read(MAX_GROUPS_AT_ONCE) or None, None)), 1, page.value_count)


def _check_level_bytes(size: int) -> int:
    if size > MAX_LEVEL_BYTES:
        raise BrokenBlock("it has too many values")
    return size


def _decode_numbers(stream: ByteStream, bit_width: int, count: int) -> Iterator[int]:
    """So many numbers of so many bits, in runs of equal ones and in packed groups of eight."""
    mask, size = (1 << bit_width) - 1, (bit_width + 7) // 8
    if bit_width > 32:
        raise BrokenBlock("its numbers are too wide")
    while count > 0:
        head = read_varint(stream)
        if not head & 1:
            run = min(head >> 1, count)
            yield from repeat(int.from_bytes(stream.read_exactly(size), "little"), run)
            count -= run
            continue
        groups = head >> 1
        while groups > 0 and count > 0:
            some = min(groups, MAX_GROUPS_AT_ONCE)
            packed = stream.read_exactly(some * bit_width)
            for group in range(some):
                eight = int.from_bytes(packed[group * bit_width : (group + 1) * bit_width], "little")
                for _ in range(min(8, count)):
                    yield eight & mask
                    eight >>= bit_width
                count -= min(8, count)
            groups -= some
