"""Remote files are read through fsspec, such as s3://bucket/key; this needs fsspec and the package for the scheme.

Each call is made in a thread that is abandoned after a timeout, because no such package has a timeout for everything.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, cast

from models.errors import MissingSource
from models.privacy import tracebacks, urls
from producer.readers.files import hub_files
from producer.timeouts import call_within

BUFFER_BYTES = 1 << 20
THREAD_NAME = "remote source"


def find_urls(url: str, timeout_seconds: float) -> list[str]:
    """The URLs that match a pattern, sorted, or the URL itself if it is no pattern; raises MissingSource."""
    if not any(character in url for character in "*["):  # a question mark starts a query
        return [url]
    with _translate_errors(url):
        system, path = call_within(timeout_seconds, lambda: file_system_for(url), THREAD_NAME)
        names = call_within(timeout_seconds, lambda: sorted(system.glob(path)), THREAD_NAME)
        return [system.unstrip_protocol(name) for name in names]


def open_url(url: str, timeout_seconds: float) -> BinaryIO:
    """The file as a stream, which can seek if its scheme can; raises MissingSource.

    Reading raises TimeoutError if nothing comes for `timeout_seconds`.
    """

    def open_() -> BinaryIO:
        system, path = file_system_for(url)
        if hub_files.is_hub_url(url):
            return hub_files.open_file(system, path)
        return cast("BinaryIO", system.open(path, "rb"))

    with _translate_errors(url):
        return io.BufferedReader(
            RemoteStream(call_within(timeout_seconds, open_, THREAD_NAME), timeout_seconds), BUFFER_BYTES
        )


class RemoteStream(io.RawIOBase):
    """An fsspec stream whose calls have a timeout."""

    def __init__(self, stream: BinaryIO, timeout_seconds: float) -> None:
        super().__init__()
        self._stream = stream
        self._timeout_seconds = timeout_seconds

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def readinto(self, buffer: Any) -> int:
        data = call_within(self._timeout_seconds, lambda: self._stream.read(len(buffer)), THREAD_NAME)
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return call_within(self._timeout_seconds, lambda: self._stream.seek(offset, whence), THREAD_NAME)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        if not self.closed:
            with suppress(TimeoutError):
                call_within(self._timeout_seconds, self._stream.close, THREAD_NAME)
        super().close()


def file_system_for(url: str) -> tuple[Any, str]:
    """The file system of a URL, and its path there; raises MissingSource."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        install = "in the checkout, run: pip install -c constraints.txt '.[remote]'"
        raise MissingSource(f"{urls.redact_path(url)} is a URL, for which fsspec is needed; {install}") from None
    # A listing of the Hub stays in its file system, and a process that runs schedules would miss new files.
    options = {"skip_instance_cache": True} if hub_files.is_hub_url(url) else {}
    try:
        system, path = url_to_fs(url, **options)
    except (ValueError, ImportError):
        raise MissingSource(_missing_package(url)) from None
    return system, path


def _missing_package(url: str) -> str:
    if hub_files.is_hub_url(url):
        return f"{urls.redact_path(url)} is on the Hub, for which huggingface_hub is needed; {hub_files.INSTALL_ADVICE}"
    return f"{urls.redact_path(url)} can't be opened: no installed package reads such URLs"


@contextmanager
def _translate_errors(url: str) -> Iterator[None]:
    # Each scheme has a package with its own errors.
    try:
        yield
    except MissingSource:
        raise
    except Exception as error:
        problem = hub_files.describe_problem(error, url) if hub_files.is_hub_url(url) else None
        if problem is None:
            raise _missing_source(error, url) from None
        raise MissingSource(problem) from None


def _missing_source(error: Exception, url: str) -> MissingSource:
    if isinstance(error, FileNotFoundError):
        return MissingSource(f"there is no file {urls.redact_path(url)}")
    # Its message is rarely safe to show: it may quote the URL with a signature in it.
    reason = tracebacks.safe_message(error) or type(error).__name__
    return MissingSource(f"{urls.redact_path(url)} can't be opened: {reason}")
