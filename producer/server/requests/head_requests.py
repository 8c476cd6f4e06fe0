"""HEAD and OPTIONS of every route of the API: a HEAD request is a GET request whose body is not sent.

The route runs, so that the status and the headers are those of GET. A stream ends before its first part.
"""

from dataclasses import dataclass

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from producer.server import openapi_document
from producer.server.requests.doors import is_for_machines
from producer.server.requests.messages import App, Message, Receive, Scope, Send


class HeadRequests:
    """Answers HEAD and OPTIONS for the routes of the API."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        method = scope["method"] if scope["type"] == "http" and is_for_machines(scope["path"]) else None
        if method == "HEAD":
            await self._answer_head(scope, receive, send)
        elif method == "OPTIONS" and (methods := await _methods_at(scope)):
            headers = [(b"allow", ", ".join(methods).encode())]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._app(scope, receive, send)

    async def _answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        inner = {**scope, "method": "GET"}
        inner.setdefault("state", {})["is_head"] = True
        head = _Head(send)
        try:
            await self._app(inner, receive, head.send)
        except ClientDisconnect:
            if not head.is_sent:
                raise
        finally:
            scope.update({**inner, "method": "HEAD"})  # with the route, for the log


async def _methods_at(scope: Scope) -> list[str]:
    """Return the methods of a path; in a thread, because the first of all requests builds the document."""
    return await run_in_threadpool(openapi_document.methods_at, scope["app"], scope["path"])


@dataclass(slots=True)
class _Head:
    """A response whose body is left out."""

    send_on: Send
    is_sent: bool = False

    async def send(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            return
        await self.send_on(message)
        await self.send_on({"type": "http.response.body", "body": b""})
        self.is_sent = True
        if all(name.lower() != b"content-length" for name, _ in message.get("headers", ())):
            raise ClientDisconnect  # so that nobody makes the stream


def is_head(request: Request) -> bool:
    """Whether only the headers of a response are sent."""
    return bool(getattr(request.state, "is_head", False))
