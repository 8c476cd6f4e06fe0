"""Remote files: whatever fsspec reaches, such as s3://bucket/key. Needs fsspec and the package for that scheme."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from models import tracebacks, urls
from models.errors import MissingSource


def found(url: str) -> list[str]:
    """The URLs that a pattern stands for, sorted; what is no pattern stands for itself. Raises MissingSource."""
    if not any(character in url for character in "*["):  # a question mark begins a query
        return [url]
    system, path = _located(url)
    with _told(url):
        return [system.unstrip_protocol(name) for name in sorted(system.glob(path))]


def opened(url: str) -> BinaryIO:
    """The file as a stream that can seek where its scheme can; raises MissingSource."""
    system, path = _located(url)
    with _told(url):
        return cast("BinaryIO", system.open(path, "rb"))


def _located(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        install = "in the checkout, run: pip install -c constraints.txt '.[remote]'"
        raise MissingSource(f"{urls.shown_file(url)} is a URL, for which fsspec is needed; {install}") from None
    with _told(url):
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
    except FileNotFoundError:
        raise MissingSource(f"there is no file {urls.shown_file(url)}") from None
    except MissingSource:
        raise
    except Exception as error:
        # Seldom its message, which may quote the URL with a signature in it.
        reason = tracebacks.words(error) or type(error).__name__
        raise MissingSource(f"{urls.shown_file(url)} can't be opened: {reason}") from None
