"""Remote files: whatever fsspec reaches, such as s3://bucket/key. Needs fsspec and the package for that scheme.

All of it is done in a thread that is left behind where nothing comes for too long: no package knows a timeout of its
own for everything.
"""

import io
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any, BinaryIO, TypeVar, cast

from models import tracebacks, urls
from models.errors import MissingSource

BUFFER_BYTES = 1 << 20

Value = TypeVar("Value")


def found(url: str, seconds: float) -> list[str]:
    """The URLs that a pattern stands for, sorted; what is no pattern stands for itself. Raises MissingSource."""
    if not any(character in url for character in "*["):  # a question mark begins a query
        return [url]
    with _told(url):
        system, path = _in_time(lambda: _located(url), seconds)
        names = _in_time(lambda: sorted(system.glob(path)), seconds)
        return [system.unstrip_protocol(name) for name in names]


def opened(url: str, seconds: float) -> BinaryIO:
    """The file as a stream that can seek where its scheme can; raises MissingSource.

    Reading raises TimeoutError where nothing comes for `seconds`.
    """

    def open_() -> BinaryIO:
        system, path = _located(url)
        return cast("BinaryIO", system.open(path, "rb"))

    with _told(url):
        return io.BufferedReader(_Remote(_in_time(open_, seconds), seconds), BUFFER_BYTES)


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
        data = _in_time(lambda: self._stream.read(len(buffer)), self._seconds)
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return _in_time(lambda: self._stream.seek(offset, whence), self._seconds)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        if not self.closed:
            with suppress(TimeoutError):
                _in_time(self._stream.close, self._seconds)
        super().close()


def _in_time(call: Callable[[], Value], seconds: float) -> Value:
    """What the call gives; raises what it raises, and TimeoutError where it takes too long."""
    done: queue.SimpleQueue[tuple[Value | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((call(), None))
        except BaseException as error:  # whatever it is, the caller's thread is waiting for it
            done.put((None, error))

    Thread(target=work, daemon=True, name="remote source").start()
    try:
        value, error = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"nothing came for {seconds:g} s") from None
    if error is not None:
        raise error
    return cast("Value", value)


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
