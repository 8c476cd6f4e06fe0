"""Pages make up a column chunk of a Parquet file; their headers are read before any page is decompressed.

The headers are in Thrift's compact protocol: https://parquet.apache.org/docs/file-format/metadata.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

FIRST_HEADER_BYTES = 1024  # read at first: most headers take a tenth of it
MAX_HEADER_BYTES = 2**20  # statistics may contain two whole values

DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3
PLAIN, PLAIN_DICTIONARY, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY, RLE_DICTIONARY = 0, 2, 6, 7, 8
DICTIONARY_ENCODINGS = (PLAIN_DICTIONARY, RLE_DICTIONARY)
# The number of the header's field that describes a page of this kind.
DETAIL_FIELDS = {DATA_PAGE: 5, DICTIONARY_PAGE: 7, DATA_PAGE_V2: 8}

# Types of the compact protocol's fields.
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12

VALUE_BYTES = {BYTE: 1, DOUBLE: 8, BINARY: None}  # None = the length is written before the value


class BrokenHeader(Exception):
    """Bytes that are not the header of a page."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page, whose body has `compressed_bytes` from `body_start` on, including the levels.

    level_bytes: the levels of a DATA_PAGE_V2, which are never compressed and come first.
    """

    kind: int
    body_start: int
    compressed_bytes: int
    uncompressed_bytes: int
    value_count: int
    encoding: int
    level_bytes: int = 0
    is_compressed: bool = True


def read_pages(file: BinaryIO, start: int, end: int) -> Iterator[Page]:
    """The pages between two offsets of a file; raises BrokenHeader."""
    while start < end:
        fields, length = _read_header(file, start, end)
        try:
            page = _parse_page(fields, start + length)
        except (KeyError, TypeError, AttributeError):
            raise BrokenHeader from None
        if page is not None:
            if min(page.compressed_bytes, page.uncompressed_bytes, page.value_count, page.level_bytes) < 0:
                raise BrokenHeader
            yield page
        compressed_bytes = fields.get(3)
        if not isinstance(compressed_bytes, int) or compressed_bytes < 0:
            raise BrokenHeader
        start += length + compressed_bytes


def _parse_page(fields: dict[int, Any], start: int) -> Page | None:
    kind = fields[1]
    if kind not in DETAIL_FIELDS:
        return None
    details = fields[DETAIL_FIELDS[kind]]
    if kind == DATA_PAGE_V2:
        level_bytes = details[5] + details[6]
        return Page(kind, start, fields[3], fields[2], details[1], details[4], level_bytes, details.get(7, True))
    return Page(kind, start, fields[3], fields[2], details[1], details[2])


def _read_header(file: BinaryIO, start: int, end: int) -> tuple[dict[int, Any], int]:
    """The header at an offset, and its length."""
    size = FIRST_HEADER_BYTES
    while True:
        file.seek(start)
        reader = _CompactReader(file.read(min(size, end - start)))
        try:
            return reader.read_struct(), reader.position
        except IndexError:
            if size >= min(MAX_HEADER_BYTES, end - start):
                raise BrokenHeader from None
        size *= 8


class _CompactReader:
    """Reads Thrift's compact protocol as headers use it; raises IndexError at the data's end, and BrokenHeader."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def read_struct(self, depth: int = 0) -> dict[int, Any]:
        """A structure's fields by number; texts are skipped."""
        if depth > 8:
            raise BrokenHeader
        fields: dict[int, Any] = {}
        number = 0
        while head := self._read_byte():
            number = number + (head >> 4) if head >> 4 else self._read_zigzag()
            fields[number] = self._read_value(head & 15, depth)
        return fields

    def _read_value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind in (I16, I32, I64):
            return self._read_zigzag()
        if kind == STRUCT:
            return self.read_struct(depth + 1)
        if kind in (LIST, SET):
            return self._skip_list(depth)
        if kind not in VALUE_BYTES:
            raise BrokenHeader
        length = VALUE_BYTES[kind] or self._read_varint()
        self.position += length
        if self.position > len(self._data):
            raise IndexError
        return None

    def _skip_list(self, depth: int) -> None:
        head = self._read_byte()
        count = self._read_varint() if head >> 4 == 15 else head >> 4
        for _ in range(count):
            self._read_value(head & 15, depth + 1)

    def _read_byte(self) -> int:
        self.position += 1
        return self._data[self.position - 1]

    def _read_varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._read_byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise BrokenHeader

    def _read_zigzag(self) -> int:
        value = self._read_varint()
        return (value >> 1) ^ -(value & 1)
