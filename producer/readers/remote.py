"""Remote files: whatever fsspec reaches, such as s3://bucket/key. Needs fsspec and the package for that scheme.

All of it is done in a thread that is left behind where nothing comes for too long: no package knows a timeout of its
own for everything.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, cast

from models.errors import MissingSource
from models.privacy import tracebacks, urls
from producer.timeouts import call_within

BUFFER_BYTES = 1 << 20
THREAD = "remote source"


def found(url: str, seconds: float) -> list[str]:
    """The URLs that a pattern stands for, sorted; what is no pattern stands for itself. Raises MissingSource."""
    if not any(character in url for character in "*["):  # a question mark begins a query
        return [url]
    with _told(url):
        system, path = call_within(seconds, lambda: _located(url), THREAD)
        names = call_within(seconds, lambda: sorted(system.glob(path)), THREAD)
        return [system.unstrip_protocol(name) for name in names]


def opened(url: str, seconds: float) -> BinaryIO:
    """The file as a stream that can seek where its scheme can; raises MissingSource.

    Reading raises TimeoutError where nothing comes for `seconds`.
    """

    def open_() -> BinaryIO:
        system, path = _located(url)
        return cast("BinaryIO", system.open(path, "rb"))

    with _told(url):
        return io.BufferedReader(_Remote(call_within(seconds, open_, THREAD), seconds), BUFFER_BYTES)


class _Remote(io.RawIOBase):
    """A stream of fsspec's that is not waited for for ever."""

    def __init__(self, stream: BinaryIO, seconds: float) -> None:
        super().__init__()
        self._stream = stream
        self._seconds = seconds

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def readinto(self, buffer: Any) -> int:
        data = call_within(self._seconds, lambda: self._stream.read(len(buffer)), THREAD)
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return call_within(self._seconds, lambda: self._stream.seek(offset, whence), THREAD)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        if not self.closed:
            with suppress(TimeoutError):
                call_within(self._seconds, self._stream.close, THREAD)
        super().close()


def _located(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        install = "in the checkout, run: pip install -c constraints.txt '.[remote]'"
        raise MissingSource(f"{urls.shown_file(url)} is a URL, for which fsspec is needed; {install}") from None
    try:
        system, path = url_to_fs(url)
    except ValueError:
        raise MissingSource(f"{urls.shown_file(url)} can't be opened: nothing here reads such URLs") from None
    return system, path


@contextmanager
def _told(url: str) -> Iterator[None]:
    # Every scheme has a package of its own with errors of its own.
    try:
        yield
    except MissingSource:
        raise
    except FileNotFoundError:
        raise MissingSource(f"there is no file {urls.shown_file(url)}") from None
    except Exception as error:
        # Seldom its message, which may quote the URL with a signature in it.
        reason = tracebacks.words(error) or type(error).__name__
        raise MissingSource(f"{urls.shown_file(url)} can't be opened: {reason}") from None
