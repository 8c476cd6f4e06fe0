"""Pages make up a column chunk of a Parquet file; their headers are read before any page is decompressed.

https://parquet.apache.org/docs/file-format/metadata describes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from producer.readers.parquet.thrift import BrokenHeader, CompactReader

FIRST_HEADER_BYTES = 1024  # read at first: most headers take a tenth of it
MAX_HEADER_BYTES = 2**20  # statistics may contain two whole values

DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3
PLAIN, PLAIN_DICTIONARY, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY, RLE_DICTIONARY = 0, 2, 6, 7, 8
DICTIONARY_ENCODINGS = (PLAIN_DICTIONARY, RLE_DICTIONARY)
# The number of the header's field that describes a page of this kind.
DETAIL_FIELDS = {DATA_PAGE: 5, DICTIONARY_PAGE: 7, DATA_PAGE_V2: 8}


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
            if (
                page is not None
                and min(page.compressed_bytes, page.uncompressed_bytes, page.value_count, page.level_bytes) < 0
            ):
                raise BrokenHeader
        except (KeyError, TypeError, AttributeError):  # fields that are missing, or of another type
            raise BrokenHeader from None
        if page is not None:
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
        reader = CompactReader(file.read(min(size, end - start)))
        try:
            return reader.read_struct(), reader.position
        except IndexError:
            if size >= min(MAX_HEADER_BYTES, end - start):
                raise BrokenHeader from None
        size *= 8
