"""Packing: gzip and Zstandard, unpacked as they are read. What a stream is tells its first bytes, not its name."""

import gzip
import io
import zlib
from typing import Any, BinaryIO, cast

from models.errors import UnreadableSource

GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BUFFER_BYTES = 2**20


def decompress(stream: BinaryIO, name: str) -> BinaryIO:
    """The stream itself, or what is packed in it. Raises UnreadableSource, here or as it is read."""
    start = _peek_magic(stream)
    if start.startswith(GZIP_MAGIC):
        return _buffered_stream(gzip.GzipFile(fileobj=stream, mode="rb"), name, zlib.error, gzip.BadGzipFile)
    if start.startswith(ZSTD_MAGIC):
        zstd = _import_zstd(name)
        return _buffered_stream(zstd.ZstdFile(stream), name, zstd.ZstdError)
    return stream


def _peek_magic(stream: BinaryIO) -> bytes:
    if isinstance(stream, io.BufferedReader):
        return stream.peek(4)[:4]
    if not stream.seekable():
        return b""
    at = stream.tell()
    start = stream.read(4)
    stream.seek(at)
    return start


def _import_zstd(name: str) -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            install = "in the checkout, run: pip install -c constraints.txt '.[zstd]'"
            raise UnreadableSource(f"{name} is packed with Zstandard, which needs backports.zstd; {install}") from None
    return zstd


def _buffered_stream(stream: Any, name: str, *error_types: type[Exception]) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(_DecompressingStream(stream, name, error_types), BUFFER_BYTES))


class _DecompressingStream(io.RawIOBase):
    """An unpacking stream whose errors are ours."""

    def __init__(self, stream: Any, name: str, error_types: tuple[type[Exception], ...]) -> None:
        self._stream = stream
        self._name = name
        self._error_types = error_types

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            part = self._stream.read1(len(buffer))  # what there is: `read` would lose it where the packing then breaks
        except EOFError:
            raise UnreadableSource(f"{self._name} ends before its packing does; fetch or write it again") from None
        except self._error_types as error:
            raise UnreadableSource(f"{self._name} can't be unpacked ({error}); fetch or write it again") from None
        buffer[: len(part)] = part
        return len(part)
