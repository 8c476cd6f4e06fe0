"""Blocks: a packed page of a Parquet file, unpacked piece by piece in bounded memory.

pyarrow unpacks Snappy and LZ4 only whole. Both copy from what came before: LZ4 from at most 64 KiB back, and so does
every Snappy compressor in use, though Snappy's format would let it go further.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

PIECE = 2**18  # bytes, packed or unpacked, at once
LITERAL = -1  # in the place of how far back a copy begins
WHOLE = {"SNAPPY": "snappy", "LZ4": "lz4_raw"}
WINDOW = 2**16  # bytes that are kept to be copied from


class BrokenBlock(Exception):
    """Bytes that don't unpack, or in a way that is not read."""


class Span:
    """A part of a file, read from its start to its end, whoever else moves in the file meanwhile."""

    closed = False

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file = file
        self._place = start
        self.left = size

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes more; none at the end."""
        self._file.seek(self._place)
        data = self._file.read(min(size, self.left) if size >= 0 else self.left)
        self._place += len(data)
        self.left = self.left - len(data) if data else 0
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

    def some(self) -> bytes:
        """What there is; nothing at the end."""
        data = self._piece[self._place :]
        self._piece, self._place = b"", 0
        return data or next(self._pieces, b"")

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        while size > len(self._piece) - self._place:
            size -= len(self._piece) - self._place
            self._piece, self._place = self._next(), 0
        self._place += size

    def _next(self) -> bytes:
        piece = next(self._pieces, None)
        return _ended() if piece is None else piece


def unpacked(span: Span, codec: str, pyarrow: Any, size: int, whole_bytes: int) -> Stream:
    """The content of a span, of a known size, that is packed with a codec, as the file's metadata names it.

    Up to `whole_bytes`, packed and unpacked, are unpacked whole where that is what pyarrow can.
    """
    if codec == "UNCOMPRESSED":
        return Stream(_plain(span))
    if codec in WHOLE and size + span.left <= whole_bytes:
        return Stream(iter([pyarrow.Codec(WHOLE[codec]).decompress(span.read(), size, asbytes=True)]))
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
    data, place = b"", 0
    while left > 0:
        if len(data) - place < 5:  # the longest of what says what follows
            data, place = data[place:] + stream.some(), 0
        length, offset, place = _snappy_element(data, place)
        left -= length
        if offset != LITERAL:
            _copy(out, offset, length)
            length = 0
        while length > 0:
            if place >= len(data):
                data, place = stream.some() or _ended(), 0
            part = data[place : place + length]
            out += part
            place += len(part)
            length -= len(part)
            if len(out) > WINDOW + PIECE:
                yield from _done(out)
        if len(out) > WINDOW + PIECE:
            yield from _done(out)
    yield bytes(out)


def _snappy_element(data: bytes, place: int) -> tuple[int, int, int]:
    """A literal's or a copy's length, how far back it copies from, and the place behind what says so."""
    tag = data[place] if place < len(data) else _ended()[0]
    kind, length = tag & 3, (tag >> 2) + 1
    if kind == 0:
        width, offset = max(0, length - 60), LITERAL
        if width:
            length = int.from_bytes(data[place + 1 : place + 1 + width], "little") + 1
    elif kind == 1:
        width, length = 1, (tag >> 2 & 7) + 4
        offset = (tag >> 5) << 8 | int.from_bytes(data[place + 1 : place + 2], "little")
    else:
        width = 2 if kind == 2 else 4
        offset = int.from_bytes(data[place + 1 : place + 1 + width], "little")
    return length, offset, place + 1 + width


def _ended() -> bytes:
    raise BrokenBlock("it ends too early")


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
