"""Bodies of requests: a small limit, which routes that read a stream lift, and a limit on such streams at once."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends, Request

from models.errors import SourceTooLarge, TooManyRequests
from producer.server.requests.messages import App, Message, Receive, Scope, Send, header

MAX_BODY_BYTES = 2**20
UPLOAD_RETRY_SECONDS = 5.0
TOO_LARGE = "the body is over 1 MB; send many inputs as an upload or as a stream"


class BodyLimit:
    """Refuses bodies over MAX_BODY_BYTES, before they are read if the request says how long its body is."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state, length, received = scope.setdefault("state", {}), _length(scope), 0

        async def receive_within_limit() -> Message:
            nonlocal received
            if not state.get("streams_body") and max(length, received) > MAX_BODY_BYTES:
                raise SourceTooLarge(TOO_LARGE)
            message = await receive()
            received += len(message.get("body", b""))
            if not state.get("streams_body") and received > MAX_BODY_BYTES:
                raise SourceTooLarge(TOO_LARGE)
            return message

        await self._app(scope, receive_within_limit, send)


class UploadSlots:
    """A limit on bodies that are received as streams at the same time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    def take(self) -> None:
        """Take a slot; raises TooManyRequests."""
        if self._taken >= self._most:
            raise TooManyRequests(
                f"the server receives {self._most} uploads already; send it again in a moment", UPLOAD_RETRY_SECONDS
            )
        self._taken += 1

    def give_back(self) -> None:
        """Give a slot back."""
        self._taken -= 1


@contextmanager
def receiving(request: Request) -> Iterator[None]:
    """Let the block read `request.stream()`, without a limit other than its own; raises TooManyRequests."""
    slots: UploadSlots = request.app.state.upload_slots
    slots.take()
    request.state.streams_body = True
    try:
        yield
    finally:
        slots.give_back()


async def _stream_body(request: Request) -> AsyncIterator[None]:
    with receiving(request):
        yield


def _length(scope: Scope) -> int:
    """The length that a request says its body has; 0 if it says none."""
    text = header(scope, b"content-length") or ""
    return int(text) if text.isdecimal() and len(text) < 20 else 0


# A route with this parameter reads `request.stream()` itself, without a limit other than its own.
StreamedBody = Annotated[None, Depends(_stream_body)]
