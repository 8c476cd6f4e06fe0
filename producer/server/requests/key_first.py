"""Keys are checked before a body is received; a route with a model would get its body before its dependencies run."""

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from models.errors import BatchmillError
from producer.server.errors import error_response
from producer.server.requests.doors import door_of
from producer.server.requests.messages import App, Receive, Scope, Send, header

SMALL_BYTES = 4096  # of a body that is not worth the check


class KeyFirst:
    """Refuses requests with a large body whose key or session is missing or wrong, without a look at the body.

    check: raises Unauthorized for the headers of a request; may ask the database
    """

    def __init__(self, app: App, check: Callable[[Scope], object]) -> None:
        self._app = app
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and _has_large_body(scope):
            try:
                await run_in_threadpool(self._check, scope)
            except BatchmillError as error:
                await error_response(error, door_of(scope["path"]))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _has_large_body(scope: Scope) -> bool:
    length = header(scope, b"content-length")
    return header(scope, b"transfer-encoding") is not None or (length is not None and not _is_small(length))


def _is_small(length: str) -> bool:
    return length.isdecimal() and len(length) < 10 and int(length) <= SMALL_BYTES
