"""Compressed pages of a Parquet file are decompressed piece by piece, in bounded memory.

pyarrow decompresses Snappy and LZ4 only whole, so they are decoded here. Both copy from earlier output: LZ4 from at
most 64 KiB back, and so does every Snappy compressor in use, though Snappy's format allows more.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

PIECE_BYTES = 2**18  # compressed or decompressed at once
NO_COPY_OFFSET = -1  # the offset of a literal
WHOLE_ONLY_CODECS = {"SNAPPY": "snappy", "LZ4": "lz4_raw"}
HISTORY_BYTES = 2**16  # output that later copies may refer to


class BrokenBlock(Exception):
    """Data that can't be decompressed, or whose codec or encoding is not supported."""


class FileSpan:
    """A part of a file, read from its start to its end; other reads of the file may come in between."""

    closed = False

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file = file
        self._position = start
        self.remaining_bytes = size

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes more; none at the end."""
        self._file.seek(self._position)
        data = self._file.read(min(size, self.remaining_bytes) if size >= 0 else self.remaining_bytes)
        self._position += len(data)
        self.remaining_bytes = self.remaining_bytes - len(data) if data else 0
        return data

    def readable(self) -> bool:
        """True; pyarrow calls it."""
        return True

    def close(self) -> None:
        """Do nothing, because the opener closes the file."""


class ByteStream:
    """Reads from a sequence of pieces; raises BrokenBlock if they end too early."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._position = 0

    def read_exactly(self, size: int) -> bytes:
        """Exactly `size` bytes."""
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
        """The rest of the current piece, or the next piece; nothing at the end."""
        data = self._piece[self._position :]
        self._piece, self._position = b"", 0
        return data or next(self._pieces, b"")

    def skip(self, size: int) -> None:
        """Skip `size` bytes."""
        while size > len(self._piece) - self._position:
            size -= len(self._piece) - self._position
            self._piece, self._position = self._next_piece(), 0
        self._position += size

    def _next_piece(self) -> bytes:
        piece = next(self._pieces, None)
        return _raise_truncated() if piece is None else piece


def decompress(span: FileSpan, codec: str, pyarrow: Any, uncompressed_bytes: int, max_whole_bytes: int) -> ByteStream:
    """The decompressed content of a span.

    codec: as the file's metadata names it.
    uncompressed_bytes: the size of the content.
    max_whole_bytes: the size, compressed and uncompressed, up to which pyarrow decompresses Snappy and LZ4 whole.
    """
    if codec == "UNCOMPRESSED":
        return ByteStream(_read_pieces(span))
    if codec in WHOLE_ONLY_CODECS and uncompressed_bytes + span.remaining_bytes <= max_whole_bytes:
        decoder = pyarrow.Codec(WHOLE_ONLY_CODECS[codec])
        return ByteStream(iter([decoder.decompress(span.read(), uncompressed_bytes, asbytes=True)]))
    if codec == "SNAPPY":
        return ByteStream(_decompress_snappy(ByteStream(_read_pieces(span))))
    if codec == "LZ4":
        return ByteStream(_decompress_lz4(ByteStream(_read_pieces(span))))
    if codec in ("GZIP", "ZSTD", "BROTLI"):
        file = pyarrow.PythonFile(span, mode="r")
        return ByteStream(_read_pieces(pyarrow.CompressedInputStream(file, codec.lower())))
    raise BrokenBlock(f"it is compressed with {codec}")


def _read_pieces(source: Any) -> Iterator[bytes]:
    while piece := source.read(PIECE_BYTES):
        yield piece


def _decompress_snappy(stream: ByteStream) -> Iterator[bytes]:
    remaining = read_varint(stream)
    output = bytearray()
    data, position = b"", 0
    while remaining > 0:
        if len(data) - position < 5:  # the longest header of an element
            data, position = data[position:] + stream.read_available(), 0
        length, offset, position = _parse_snappy_element(data, position)
        remaining -= length
        if offset != NO_COPY_OFFSET:
            _copy_back(output, offset, length)
            length = 0
        while length > 0:
            if position >= len(data):
                data, position = stream.read_available() or _raise_truncated(), 0
            part = data[position : position + length]
            output += part
            position += len(part)
            length -= len(part)
            yield from _flush_all_but_history(output)
        yield from _flush_all_but_history(output)
    yield bytes(output)


def _parse_snappy_element(data: bytes, position: int) -> tuple[int, int, int]:
    """The length of a literal or copy, the copy's offset, and the position after the element's header."""
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
    output = bytearray()
    while True:
        lengths = stream.read_exactly(1)[0]
        for part in _part_lengths(_read_lz4_length(stream, lengths >> 4)):
            output += stream.read_exactly(part)
            yield from _flush_all_but_history(output)
        try:
            offset = int.from_bytes(stream.read_exactly(2), "little")
        except BrokenBlock:  # a block ends with a literal
            yield bytes(output)
            return
        for part in _part_lengths(_read_lz4_length(stream, lengths & 15) + 4):
            _copy_back(output, offset, part)
            yield from _flush_all_but_history(output)


def _part_lengths(length: int) -> Iterator[int]:
    for start in range(0, length, PIECE_BYTES):
        yield min(PIECE_BYTES, length - start)


def _read_lz4_length(stream: ByteStream, length: int) -> int:
    if length == 15:
        while (more := stream.read_exactly(1)[0]) == 255:
            length += 255
        length += more
    return length


def read_varint(stream: ByteStream) -> int:
    """The next number, which has seven bits in each byte."""
    value = shift = 0
    while shift < 35:
        byte = stream.read_exactly(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7
    raise BrokenBlock("its length is wrong")


def _copy_back(output: bytearray, offset: int, length: int) -> None:
    start = len(output) - offset
    if offset <= 0 or start < 0:
        raise BrokenBlock("it copies from outside the data")
    if offset >= length:
        output += output[start : start + length]
    else:
        pattern = output[start:]
        output += (pattern * (length // offset + 1))[:length]


def _flush_all_but_history(output: bytearray) -> Iterator[bytes]:
    """Yield the output except the history, once it is more than a piece."""
    if len(output) > HISTORY_BYTES + PIECE_BYTES:
        yield bytes(output[:-HISTORY_BYTES])
        del output[:-HISTORY_BYTES]
