"""Large pages are too large to be decompressed in memory; the texts of their column chunk are read one by one.

Common writers end a page only after a thousand values, so long texts make pages of a gigabyte. A dictionary is written
to disk, and its values are read when they are used. Only flat columns of texts or bytes have such pages in practice.
"""

import io
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

MAX_LEVEL_BYTES = 2**22  # the bits that mark a page's null values
MAX_DICTIONARY_ENTRIES = 2**21  # each takes eight bytes of memory
MAX_GROUPS_AT_ONCE = 2**12  # each has eight packed numbers
TOO_LONG_VALUE = UnreadableValue(ROW_TOO_LONG_MESSAGE)
NOT_UTF8_VALUE = UnreadableValue("has text that is not UTF-8; write the column again as text")


@dataclass(frozen=True, slots=True)
class LargeColumn:
    """A column chunk with large pages, at these offsets of the file.

    codec: as the file's metadata names it.
    is_text: whether the values are texts rather than bytes.
    max_whole_bytes: the size up to which a page may be decompressed whole.
    """

    column: str
    start: int
    end: int
    codec: str
    is_nullable: bool
    is_text: bool
    max_whole_bytes: int

    def read_values(self, file: BinaryIO, meter: Meter, pyarrow: Any) -> Iterator[object]:
        """Each value: text, bytes, None or UnreadableValue. Raises BrokenBlock, BrokenHeader and SourceTooLarge."""
        dictionary = None
        with open_spool() as spool:
            for page in read_pages(file, self.start, self.end):
                if page.kind == DICTIONARY_PAGE:
                    body = self._page_body(file, page, pyarrow)
                    dictionary = _DiskDictionary(spool, body, page, meter, self.column)
                else:
                    yield from map(self._decode_text, self._page_values(file, page, dictionary, pyarrow))

    def _page_values(
        self, file: BinaryIO, page: Page, dictionary: "_DiskDictionary | None", pyarrow: Any
    ) -> Iterator[object]:
        body = self._page_body(file, page, pyarrow)
        levels: Iterator[int] = repeat(1, page.value_count)
        if self.is_nullable and page.kind == DATA_PAGE_V2:
            levels = _read_levels(FileSpan(file, page.body_start, page.level_bytes), page)
        elif self.is_nullable:
            size = int.from_bytes(body.read_exactly(4), "little")
            levels = _read_levels(io.BytesIO(body.read_exactly(_check_level_bytes(size))), page)
        values = self._present_values(body, page, dictionary)
        for level in levels:
            yield next(values) if level else None

    def _page_body(self, file: BinaryIO, page: Page, pyarrow: Any) -> ByteStream:
        """A page's decompressed content, after its uncompressed levels."""
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
            raise BrokenBlock("its encoding is not supported in so large a page")

    def _decode_text(self, value: object) -> object:
        if not self.is_text or not isinstance(value, bytes):
            return value
        try:
            return value.decode()
        except UnicodeDecodeError:
            return NOT_UTF8_VALUE


class _DiskDictionary:
    """The values of a dictionary, on disk."""

    def __init__(self, spool: BinaryIO, body: ByteStream, page: Page, meter: Meter, column: str) -> None:
        if page.value_count > MAX_DICTIONARY_ENTRIES:
            raise BrokenBlock(f"its dictionary has more than {MAX_DICTIONARY_ENTRIES:,} values")
        spool.seek(0)
        spool.truncate()
        self._spool = spool
        self._offsets = array("q", [0])
        self._too_long: set[int] = set()
        for number in range(page.value_count):
            value = _read_value(body)
            if isinstance(value, bytes):
                meter.add(len(value), column)
                spool.write(value)
                self._offsets.append(self._offsets[-1] + len(value))
            else:
                self._too_long.add(number)
                self._offsets.append(self._offsets[-1])

    def __getitem__(self, number: int) -> object:
        if number >= len(self._offsets) - 1:
            raise BrokenBlock("it refers to a value that its dictionary does not have")
        if number in self._too_long:
            return TOO_LONG_VALUE
        start, end = self._offsets[number], self._offsets[number + 1]
        self._spool.seek(start)
        return self._spool.read(end - start)


def _read_value(body: ByteStream) -> object:
    size = int.from_bytes(body.read_exactly(4), "little")
    if size <= MAX_ROW_BYTES:
        return body.read_exactly(size)
    body.skip(size)
    return TOO_LONG_VALUE


def _read_levels(source: FileSpan | io.BytesIO, page: Page) -> Iterator[int]:
    _check_level_bytes(page.level_bytes)
    return _decode_numbers(ByteStream(iter(lambda: source.read(MAX_GROUPS_AT_ONCE) or None, None)), 1, page.value_count)


def _check_level_bytes(size: int) -> int:
    if size > MAX_LEVEL_BYTES:
        raise BrokenBlock("it has too many values")
    return size


def _decode_numbers(stream: ByteStream, bit_width: int, count: int) -> Iterator[int]:
    """`count` numbers of `bit_width` bits, stored as runs of equal numbers and as packed groups of eight."""
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
            portion = min(groups, MAX_GROUPS_AT_ONCE)
            packed = stream.read_exactly(portion * bit_width)
            for group in range(portion):
                eight = int.from_bytes(packed[group * bit_width : (group + 1) * bit_width], "little")
                for _ in range(min(8, count)):
                    yield eight & mask
                    eight >>= bit_width
                count -= min(8, count)
            groups -= portion
