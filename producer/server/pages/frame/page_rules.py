"""The rules of everything that is no API: headers, HEAD requests, and errors as pages.

It is a layer around the whole application, so that errors of the other layers are pages too.
"""

from dataclasses import dataclass, field

from fastapi import Request
from starlette.requests import ClientDisconnect

from producer.server.pages.frame.errors import PageError, error_page
from producer.server.pages.frame.headers import headers_for
from producer.server.requests.doors import is_for_machines
from producer.server.requests.messages import App, Message, Receive, Scope, Send, header

ENDLESS_ROOT = "/events/"  # streams, which have no HEAD
MAX_ERROR_BYTES = 1_000_000


class PageRules:
    """Answers browsers as they expect it."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or is_for_machines(scope["path"]):
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        is_head = scope["method"] == "HEAD" and not scope["path"].startswith(ENDLESS_ROOT)
        inner = {**scope, "method": "GET"} if is_head else scope
        answer = _Answer(inner, receive, send, is_head=is_head, shows_errors=wants_page(scope))
        await self._app(inner, receive, answer.send)


@dataclass(eq=False, slots=True)
class _Answer:
    """A response on its way; an error is kept until all of it is there, then its page is sent."""

    scope: Scope
    receive_on: Receive
    send_on: Send
    is_head: bool
    shows_errors: bool
    start: Message | None = None  # of an error that is kept
    body: bytearray = field(default_factory=bytearray)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self.shows_errors and _is_error(message):
            self.start = message
        elif self.start is None:
            await self._send_with_headers(message)
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")[: MAX_ERROR_BYTES - len(self.body)]
            if not message.get("more_body", False):
                await self._send_page(self.start)

    async def _send_page(self, start: Message) -> None:
        kept = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
        error = PageError.parse(start["status"], bytes(self.body), kept.get("retry-after"))
        if error is None:  # a page answered with JSON for a script that reads it
            await self._send_with_headers(start)
            await self._send_with_headers({"type": "http.response.body", "body": bytes(self.body)})
            return
        response = error_page(Request(self.scope), error)
        for name in ("x-request-id", "retry-after", "allow"):
            if name in kept:
                response.headers[name] = kept[name]
        await response(self.scope, self.receive_on, self._send_with_headers)

    async def _send_with_headers(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message.get("headers", ())}
            ours = [(name.encode(), value.encode()) for name, value in headers_for(self.scope["scheme"]).items()]
            missing = [pair for pair in ours if pair[0] not in present]
            message = {**message, "headers": [*message.get("headers", ()), *missing]}
        elif self.is_head and message["type"] == "http.response.body":
            await self.send_on({"type": "http.response.body", "body": b""})
            if message.get("more_body", False):
                raise ClientDisconnect  # so that nobody makes the rest of a download
            return
        await self.send_on(message)


def wants_page(scope: Scope) -> bool:
    """Whether a browser or htmx asks."""
    return header(scope, b"hx-request") is not None or "text/html" in (header(scope, b"accept") or "")


def _is_error(start: Message) -> bool:
    kinds = [value for name, value in start.get("headers", ()) if name.lower() == b"content-type"]
    return start["status"] >= 400 and kinds[:1] == [b"application/json"]
