"""The errors of a server, raised as the classes that the same code has over SQL."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx2

from models.errors import (
    BatchmillError,
    Forbidden,
    InvalidRows,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    UsageError,
)

MAX_MESSAGE_CHARACTERS = 8_000  # of a foreign server
DEFAULT_RETRY_SECONDS, MAX_RETRY_AFTER_SECONDS = 1.0, 3_600.0

# For codes that this version does not know.
CLASS_BY_STATUS: dict[int, type[BatchmillError]] = {
    400: UsageError,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: UsageError,
    413: UsageError,
    415: UsageError,
    422: UsageError,
    429: TooManyRequests,
    502: Unreachable,
    503: Unreachable,
    504: Unreachable,
}


class AnswerLost(Unreachable):
    """The connection ended after a request was sent, so the server may or may not have acted on it."""


class ForeignAnswer(Unreachable):
    """An answer that is none of Batchmill's, and that time does not mend."""

    retryable = False


def error_from_response(url: str, response: httpx2.Response) -> BatchmillError:
    """Return the error that a response describes; Unreachable if it is none of Batchmill's.

    url: of the server, for messages
    """
    document = _error_document(response)
    if document is None:
        return foreign_response(url, response)
    message = str(document["message"])[:MAX_MESSAGE_CHARACTERS]
    error = make_error(document.get("code"), message, CLASS_BY_STATUS.get(response.status_code, BatchmillError))
    if isinstance(param := document.get("param"), str):
        error.param = param
    if isinstance(error, TooManyRequests):
        error.retry_after_seconds = retry_after_seconds(response)
    if isinstance(error, InvalidRows):
        problems = document.get("problems")
        error.problems = tuple(map(str, problems)) if isinstance(problems, list) else tuple(_listed_problems(message))
    return error


def make_error(code: object, message: str, default: type[BatchmillError]) -> BatchmillError:
    """Return the error with a code and a complete message.

    default: its class, if no class has this code
    """
    kind = _classes_by_code().get(str(code), default)
    error = kind.__new__(kind, message)  # not by the constructors, which put messages together
    error.args = (message,)
    if isinstance(code, str):
        error.code = code
    return error


def foreign_response(url: str, response: httpx2.Response) -> Unreachable:
    """The error for an answer that is not Batchmill's, such as a proxy's."""
    status = f"{response.status_code} {response.reason_phrase}".strip()
    if response.is_redirect:
        return ForeignAnswer(f"{url} sends clients to another address ({status}); give the client that one")
    message = f"{url} answered {status} and not as Batchmill does; is this its address, and is a proxy before it well?"
    return Unreachable(message) if response.is_server_error else ForeignAnswer(message)


def retry_after_seconds(response: httpx2.Response) -> float:
    """After how many seconds the server wants to be asked again."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return DEFAULT_RETRY_SECONDS
    return min(MAX_RETRY_AFTER_SECONDS, max(0.0, seconds)) if seconds == seconds else DEFAULT_RETRY_SECONDS


def _error_document(response: httpx2.Response) -> dict[str, Any] | None:
    try:
        document = response.json()["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get("message"), str) else None


def _listed_problems(message: str) -> Iterator[str]:
    """The problems that follow the first line of `InvalidRows`."""
    return (line.strip() for line in message.split("\n")[1:] if line.strip())


@cache
def _classes_by_code() -> dict[str, type[BatchmillError]]:
    classes: dict[str, type[BatchmillError]] = {}
    open_classes: list[type[BatchmillError]] = [BatchmillError]
    while open_classes:  # level by level, so that a class comes before those below it with the same code
        kind = open_classes.pop(0)
        classes.setdefault(kind.code, kind)
        open_classes += kind.__subclasses__()
    return classes
