"""Blocks: a packed page of a Parquet file, unpacked piece by piece in bounded memory.

pyarrow unpacks Snappy and LZ4 only whole. Both copy from what came before: LZ4 from at most 64 KiB back, and so does
every Snappy compressor in use, though Snappy's format would let it go further.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

PIECE = 2**18  # bytes, packed or unpacked, at once
WINDOW = 2**16  # bytes that are kept to be copied from


class BrokenBlock(Exception):
    """Bytes that don't unpack, or in a way that is not read."""


class Span:
    """A part of a file, read from its start to its end, whoever else moves in the file meanwhile."""

    closed = False

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file = file
        self._place = start
        self._left = size

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes more; none at the end."""
        self._file.seek(self._place)
        data = self._file.read(min(size, self._left) if size >= 0 else self._left)
        self._place += len(data)
        self._left = self._left - len(data) if data else 0
        return data

    def readable(self) -> bool:
        """It is, as pyarrow asks."""
        return True

    def close(self) -> None:
        """Nothing: the file is its opener's to close."""


class Stream:
    """Bytes taken from pieces in order; raises BrokenBlock where there are not as many."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._place = 0

    def take(self, size: int) -> bytes:
        """The next bytes, exactly so many."""
        end = self._place + size
        if end > len(self._piece):
            parts = [self._piece[self._place :]]
            size -= len(parts[0])
            while size > 0:
                self._piece = self._next()
                parts.append(self._piece[:size])
                self._place = len(parts[-1])
                size -= self._place
            return b"".join(parts)
        data = self._piece[self._place : end]
        self._place = end
        return data

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        while size > len(self._piece) - self._place:
            size -= len(self._piece) - self._place
            self._piece, self._place = self._next(), 0
        self._place += size

    def _next(self) -> bytes:
        piece = next(self._pieces, None)
        if piece is None:
            raise BrokenBlock("it ends too early")
        return piece


def unpacked(span: Span, codec: str, pyarrow: Any) -> Stream:
    """The content of a span that is packed with a codec, as the file's metadata names it."""
    if codec == "UNCOMPRESSED":
        return Stream(_plain(span))
    if codec == "SNAPPY":
        return Stream(_snappy(Stream(_plain(span))))
    if codec == "LZ4":
        return Stream(_lz4(Stream(_plain(span))))
    if codec in ("GZIP", "ZSTD", "BROTLI"):
        packed = pyarrow.PythonFile(span, mode="r")
        return Stream(_plain(pyarrow.CompressedInputStream(packed, codec.lower())))
    raise BrokenBlock(f"it is packed with {codec}")


def _plain(source: Any) -> Iterator[bytes]:
    while piece := source.read(PIECE):
        yield piece


def _snappy(stream: Stream) -> Iterator[bytes]:
    left = varint(stream)
    out = bytearray()
    while left > 0:
        tag = stream.take(1)[0]
        kind, length = tag & 3, (tag >> 2) + 1
        if kind == 0:
            if length > 60:
                length = int.from_bytes(stream.take(length - 60), "little") + 1
            left -= length
            while length > PIECE:  # as long as its author likes
                out += stream.take(PIECE)
                length -= PIECE
                yield from _done(out)
            out += stream.take(length)
        else:
            if kind == 1:
                length = (tag >> 2 & 7) + 4
                offset = (tag >> 5) << 8 | stream.take(1)[0]
            else:
                offset = int.from_bytes(stream.take(2 if kind == 2 else 4), "little")
            left -= length
            _copy(out, offset, length)
        if len(out) > WINDOW + PIECE:
            yield from _done(out)
    yield bytes(out)


def _lz4(stream: Stream) -> Iterator[bytes]:
    out = bytearray()
    while True:
        token = stream.take(1)[0]
        length = _lz4_length(stream, token >> 4)
        while length > PIECE:
            out += stream.take(PIECE)
            length -= PIECE
            yield from _done(out)
        out += stream.take(length)
        try:
            offset = int.from_bytes(stream.take(2), "little")
        except BrokenBlock:  # a block ends with bytes that are no copies
            yield bytes(out)
            return
        length = _lz4_length(stream, token & 15) + 4
        while length > PIECE:
            _copy(out, offset, PIECE)
            length -= PIECE
            yield from _done(out)
        _copy(out, offset, length)
        if len(out) > WINDOW + PIECE:
            yield from _done(out)


def _lz4_length(stream: Stream, length: int) -> int:
    if length == 15:
        while (more := stream.take(1)[0]) == 255:
            length += 255
        length += more
    return length


def varint(stream: Stream) -> int:
    """The next number, in seven bits a byte."""
    value = shift = 0
    while shift < 35:
        byte = stream.take(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7
    raise BrokenBlock("its length is none")


def _copy(out: bytearray, offset: int, length: int) -> None:
    start = len(out) - offset
    if offset <= 0 or start < 0:
        raise BrokenBlock("it copies from what is not there")
    if offset >= length:
        out += out[start : start + length]
    else:
        pattern = out[start:]
        out += (pattern * (length // offset + 1))[:length]


def _done(out: bytearray) -> Iterator[bytes]:
    yield bytes(out[:-WINDOW])
    del out[:-WINDOW]
