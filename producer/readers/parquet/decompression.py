"""Blocks: a packed page of a Parquet file, unpacked piece by piece in bounded memory.

pyarrow unpacks Snappy and LZ4 only whole. Both copy from what came before: LZ4 from at most 64 KiB back, and so does
every Snappy compressor in use, though Snappy's format would let it go further.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

PIECE_BYTES = 2**18  # bytes, packed or unpacked, at once
NO_COPY_OFFSET = -1  # in the place of how far back a copy begins
WHOLE_ONLY_CODECS = {"SNAPPY": "snappy", "LZ4": "lz4_raw"}
HISTORY_BYTES = 2**16  # bytes that are kept to be copied from


class BrokenBlock(Exception):
    """Bytes that don't unpack, or in a way that is not read."""


class FileSpan:
    """A part of a file, read from its start to its end, whoever else moves in the file meanwhile."""

    closed = False

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file = file
        self._position = start
        self.remaining_bytes = size

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes more; none at the end."""
        self._file.seek(self._position)
        data = self._file.read(min(size, self.remaining_bytes) if size >= 0 else self.remaining_bytes)
        self._position += len(data)
        self.remaining_bytes = self.remaining_bytes - len(data) if data else 0
        return data

    def readable(self) -> bool:
        """It is, as pyarrow asks."""
        return True

    def close(self) -> None:
        """Nothing: the file is its opener's to close."""


class ByteStream:
    """Bytes taken from pieces in order; raises BrokenBlock where there are not as many."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._position = 0

    def read_exactly(self, size: int) -> bytes:
        """The next bytes, exactly so many."""
        end = self._position + size
        if end > len(self._piece):
            parts = [self._piece[self._position :]]
            size -= len(parts[0])
            while size > 0:
                self._piece = self._next_piece()
                parts.append(self._piece[:size])
                self._position = len(parts[-1])
                size -= self._position
            return b"".join(parts)
        data = self._piece[self._position : end]
        self._position = end
        return data

    def read_available(self) -> bytes:
        """What there is; nothing at the end."""
        data = self._piece[self._position :]
        self._piece, self._position = b"", 0
        return data or next(self._pieces, b"")

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        while size > len(self._piece) - self._position:
            size -= len(self._piece) - self._position
            self._piece, self._position = self._next_piece(), 0
        self._position += size

    def _next_piece(self) -> bytes:
        piece = next(self._pieces, None)
        return _raise_truncated() if piece is None else piece


def decompress(span: FileSpan, codec: str, pyarrow: Any, uncompressed_bytes: int, max_whole_bytes: int) -> ByteStream:
    """The content of a span, of a known size, that is packed with a codec, as the file's metadata names it.

    Up to `whole_bytes`, packed and unpacked, are unpacked whole where that is what pyarrow can.
    """
    if codec == "UNCOMPRESSED":
        return ByteStream(_read_pieces(span))
    if codec in WHOLE_ONLY_CODECS and uncompressed_bytes + span.remaining_bytes <= max_whole_bytes:
        return ByteStream(
            iter([pyarrow.Codec(WHOLE_ONLY_CODECS[codec]).decompress(span.read(), uncompressed_bytes, asbytes=True)])
        )
    if codec == "SNAPPY":
        return ByteStream(_decompress_snappy(ByteStream(_read_pieces(span))))
    if codec == "LZ4":
        return ByteStream(_decompress_lz4(ByteStream(_read_pieces(span))))
    if codec in ("GZIP", "ZSTD", "BROTLI"):
        packed = pyarrow.PythonFile(span, mode="r")
        return ByteStream(_read_pieces(pyarrow.CompressedInputStream(packed, codec.lower())))
    raise BrokenBlock(f"it is packed with {codec}")


def _read_pieces(source: Any) -> Iterator[bytes]:
    while piece := source.read(PIECE_BYTES):
        yield piece


def _decompress_snappy(stream: ByteStream) -> Iterator[bytes]:
    left = read_varint(stream)
    out = bytearray()
    data, place = b"", 0
    while left > 0:
        if len(data) - place < 5:  # the longest of what says what follows
            data, place = data[place:] + stream.read_available(), 0
        length, offset, place = _parse_snappy_element(data, place)
        left -= length
        if offset != NO_COPY_OFFSET:
            _copy_back(out, offset, length)
            length = 0
        while length > 0:
            if place >= len(data):
                data, place = stream.read_available() or _raise_truncated(), 0
            part = data[place : place + length]
            out += part
            place += len(part)
            length -= len(part)
            if len(out) > HISTORY_BYTES + PIECE_BYTES:
                yield from _flush_all_but_history(out)
        if len(out) > HISTORY_BYTES + PIECE_BYTES:
            yield from _flush_all_but_history(out)
    yield bytes(out)


def _parse_snappy_element(data: bytes, position: int) -> tuple[int, int, int]:
    """A literal's or a copy's length, how far back it copies from, and the place behind what says so."""
    tag = data[position] if position < len(data) else _raise_truncated()[0]
    kind, length = tag & 3, (tag >> 2) + 1
    if kind == 0:
        width, offset = max(0, length - 60), NO_COPY_OFFSET
        if width:
            length = int.from_bytes(data[position + 1 : position + 1 + width], "little") + 1
    elif kind == 1:
        width, length = 1, (tag >> 2 & 7) + 4
        offset = (tag >> 5) << 8 | int.from_bytes(data[position + 1 : position + 2], "little")
    else:
        width = 2 if kind == 2 else 4
        offset = int.from_bytes(data[position + 1 : position + 1 + width], "little")
    return length, offset, position + 1 + width


def _raise_truncated() -> bytes:
    raise BrokenBlock("it ends too early")


def _decompress_lz4(stream: ByteStream) -> Iterator[bytes]:
    out = bytearray()
    while True:
        token = stream.read_exactly(1)[0]
        length = _read_lz4_length(stream, token >> 4)
        while length > PIECE_BYTES:
            out += stream.read_exactly(PIECE_BYTES)
            length -= PIECE_BYTES
            yield from _flush_all_but_history(out)
        out += stream.read_exactly(length)
        try:
            offset = int.from_bytes(stream.read_exactly(2), "little")
        except BrokenBlock:  # a block ends with bytes that are no copies
            yield bytes(out)
            return
        length = _read_lz4_length(stream, token & 15) + 4
        while length > PIECE_BYTES:
            _copy_back(out, offset, PIECE_BYTES)
            length -= PIECE_BYTES
            yield from _flush_all_but_history(out)
        _copy_back(out, offset, length)
        if len(out) > HISTORY_BYTES + PIECE_BYTES:
            yield from _flush_all_but_history(out)


def _read_lz4_length(stream: ByteStream, length: int) -> int:
    if length == 15:
        while (more := stream.read_exactly(1)[0]) == 255:
            length += 255
        length += more
    return length


def read_varint(stream: ByteStream) -> int:
    """The next number, in seven bits a byte."""
    value = shift = 0
    while shift < 35:
        byte = stream.read_exactly(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7
    raise BrokenBlock("its length is none")


def _copy_back(out: bytearray, offset: int, length: int) -> None:
    start = len(out) - offset
    if offset <= 0 or start < 0:
        raise BrokenBlock("it copies from what is not there")
    if offset >= length:
        out += out[start : start + length]
    else:
        pattern = out[start:]
        out += (pattern * (length // offset + 1))[:length]


def _flush_all_but_history(out: bytearray) -> Iterator[bytes]:
    yield bytes(out[:-HISTORY_BYTES])
    del out[:-HISTORY_BYTES]
