"""Bodies of requests: a small limit, which routes that read a stream lift, and a limit on such streams at once."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends, Request

from models.errors import SourceTooLarge, TooManyRequests
from producer.server.requests.messages import App, Message, Receive, Scope, Send, header

MAX_BODY_BYTES = 2**20
MAX_DOCUMENTS = 64  # larger JSON bodies that are received at once, each in memory
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
    """A limit on bodies that are received at the same time; a tenant may have half of them.

    most: bodies of all tenants
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str | None] = Counter()

    def take(self, tenant: str | None = None) -> None:
        """Take a slot; raises TooManyRequests.

        tenant: None = the operator, who may have all
        """
        most_of_tenant = max(1, self._most // 2)
        if tenant is not None and self._taken[tenant] >= most_of_tenant:
            message = f"the server receives {most_of_tenant} uploads of yours already; send it again in a moment"
            raise TooManyRequests(message, UPLOAD_RETRY_SECONDS)
        if self._taken.total() >= self._most:
            raise TooManyRequests(
                f"the server receives {self._most} uploads already; send it again in a moment", UPLOAD_RETRY_SECONDS
            )
        self._taken[tenant] += 1

    def give_back(self, tenant: str | None = None) -> None:
        """Give a slot back."""
        self._taken[tenant] -= 1
        self._taken += Counter()  # keeps those above 0


@contextmanager
def receiving(request: Request) -> Iterator[None]:
    """Let the block read `request.stream()`, without a limit other than its own; raises TooManyRequests."""
    with _slot(request, request.app.state.upload_slots):
        yield


@contextmanager
def receiving_document(request: Request) -> Iterator[None]:
    """The same for a body that is kept in memory; slow uploads take no room from it."""
    with _slot(request, request.app.state.document_slots):
        yield


@contextmanager
def _slot(request: Request, slots: UploadSlots) -> Iterator[None]:
    tenant: str | None = getattr(request.state, "tenant", None)
    slots.take(tenant)
    request.state.streams_body = True
    try:
        yield
    finally:
        slots.give_back(tenant)


async def _stream_body(request: Request) -> AsyncIterator[None]:
    with receiving(request):
        yield


def _length(scope: Scope) -> int:
    """The length that a request says its body has; 0 if it says none."""
    text = header(scope, b"content-length") or ""
    return int(text) if text.isdecimal() and len(text) < 20 else 0


# A route with this parameter reads `request.stream()` itself, without a limit other than its own.
StreamedBody = Annotated[None, Depends(_stream_body)]
