"""The part of a request that an error is about, named by the caller who knows it."""

from collections.abc import Iterator
from contextlib import contextmanager

from models.errors import BatchmillError, NotFound, UsageError


@contextmanager
def naming(param: str | None, *kinds: type[BatchmillError]) -> Iterator[None]:
    """Let an error that names no part of a request name this one; None = none.

    kinds: of the errors that are about it; empty = a UsageError, or a NotFound
    """
    try:
        yield
    except BatchmillError as error:
        if isinstance(error, kinds or (UsageError, NotFound)):
            error.param = error.param or param
        raise
