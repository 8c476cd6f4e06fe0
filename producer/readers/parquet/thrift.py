"""Thrift's compact protocol, as the headers and footers of Parquet files use it.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Iterator
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12

VALUE_BYTES = {BYTE: 1, DOUBLE: 8, BINARY: None}  # None = the length is written before the value
MAX_DEPTH = 8


class BrokenHeader(Exception):
    """Bytes that are not the expected structure."""


class CompactReader:
    """Reads structures; raises IndexError at the data's end, and BrokenHeader."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def read_struct(self, depth: int = 0) -> dict[int, Any]:
        """A structure's fields by number; texts and lists are skipped."""
        return {number: self.read_value(kind, depth) for number, kind in self.iter_fields(depth)}

    def iter_fields(self, depth: int = 0) -> Iterator[tuple[int, int]]:
        """The number and type of each field of a structure; the caller reads the value before it goes on."""
        if depth > MAX_DEPTH:
            raise BrokenHeader
        number = 0
        while head := self._read_byte():
            number = number + (head >> 4) if head >> 4 else self.read_integer()
            yield number, head & 15

    def read_value(self, kind: int, depth: int = 0) -> Any:
        """A field's value; None for a text or a list, which are skipped."""
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind in (I16, I32, I64):
            return self.read_integer()
        if kind == STRUCT:
            return self.read_struct(depth + 1)
        if kind in (LIST, SET):
            return self._skip_list(depth)
        if kind not in VALUE_BYTES:
            raise BrokenHeader
        self._skip(VALUE_BYTES[kind] or self._read_varint())
        return None

    def read_list_header(self) -> tuple[int, int]:
        """The number of a list's values, and their type."""
        head = self._read_byte()
        return self._read_varint() if head >> 4 == 15 else head >> 4, head & 15

    def read_integer(self) -> int:
        """An integer of any size."""
        value = self._read_varint()
        return (value >> 1) ^ -(value & 1)

    def _skip_list(self, depth: int) -> None:
        count, kind = self.read_list_header()
        if kind in (TRUE, FALSE):
            self._skip(count)  # each is a byte here, while a field has its value in its type
            return
        for _ in range(count):
            self.read_value(kind, depth + 1)

    def _skip(self, length: int) -> None:
        self.position += length
        if self.position > len(self._data):
            raise IndexError

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
