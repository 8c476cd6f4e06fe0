"""Gzip and Zstandard streams are decompressed as they are read; their first bytes tell, not their names."""

import gzip
import io
import zlib
from typing import Any, BinaryIO, cast

from models.errors import UnreadableSource

GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BUFFER_BYTES = 2**20


def decompress(stream: BinaryIO, name: str) -> BinaryIO:
    """The stream, decompressed if it is compressed; raises UnreadableSource, here or when it is read."""
    magic = _peek_magic(stream)
    if magic.startswith(GZIP_MAGIC):
        return _buffered_stream(gzip.GzipFile(fileobj=stream, mode="rb"), name, zlib.error, gzip.BadGzipFile)
    if magic.startswith(ZSTD_MAGIC):
        zstd = _import_zstd(name)
        return _buffered_stream(zstd.ZstdFile(stream), name, zstd.ZstdError)
    return stream


def _peek_magic(stream: BinaryIO) -> bytes:
    if isinstance(stream, io.BufferedReader):
        return stream.peek(4)[:4]
    if not stream.seekable():
        return b""
    position = stream.tell()
    magic = stream.read(4)
    stream.seek(position)
    return magic


def _import_zstd(name: str) -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            install = "in the checkout, run: pip install -c constraints.txt '.[zstd]'"
            raise UnreadableSource(
                f"{name} is compressed with Zstandard, which needs backports.zstd; {install}"
            ) from None
    return zstd


def _buffered_stream(stream: Any, name: str, *error_types: type[Exception]) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(_DecompressingStream(stream, name, error_types), BUFFER_BYTES))


class _DecompressingStream(io.RawIOBase):
    """A decompressing stream that raises our errors."""

    def __init__(self, stream: Any, name: str, error_types: tuple[type[Exception], ...]) -> None:
        self._stream = stream
        self._name = name
        self._error_types = error_types

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            part = self._stream.read1(len(buffer))  # `read` would lose the data before a broken part
        except EOFError:
            raise UnreadableSource(f"{self._name} is compressed, and cut off; fetch or write it again") from None
        except self._error_types as error:
            raise UnreadableSource(f"{self._name} can't be decompressed ({error}); fetch or write it again") from None
        buffer[: len(part)] = part
        return len(part)
