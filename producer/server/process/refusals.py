"""Answers to connections and requests that the application never sees: JSON for programs, a sentence for browsers."""

import html
import json

from producer.server.errors import error_body
from producer.server.requests.messages import Message, Receive, Scope, Send, header

MAX_HEAD_BYTES = 32 * 1024  # the request line and all headers of one request
RETRY_SECONDS = 2
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{status} · Batchmill</title>
<h1>This request can't be answered</h1>
<p>{message}.</p>
</html>
"""


def refusal(status: int, message: str, code: str, *, for_browser: bool) -> tuple[dict[str, str], bytes]:
    """The headers and the body of an answer after which the connection is closed."""
    if for_browser:
        sentence = html.escape(message[:1].upper() + message[1:])
        content = PAGE.format(status=status, message=sentence).encode(errors="replace")
        fields = {"content-type": "text/html; charset=utf-8", **PAGE_HEADERS}
    else:
        content = json.dumps(error_body(status, message, code)).encode()
        fields = {"content-type": "application/json"}
    return {**fields, "content-length": str(len(content)), "connection": "close"}, content


async def refuse_connection(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer the request of a connection over the limit."""
    message = "the server has as many connections as it may have; try again soon"
    await _send(scope, send, 503, message, "too_many_connections", {"retry-after": str(RETRY_SECONDS)})


async def refuse_lengths(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer a request whose body has two lengths."""
    message = "the request has both Content-Length and Transfer-Encoding; send one of them"
    await _send(scope, send, 400, message, "invalid_request")


async def refuse_head(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer a request whose headers are too large."""
    await _send(scope, send, 400, head_message(for_browser=_is_browser(scope)), "invalid_request")


def head_message(*, for_browser: bool) -> str:
    """Why a request with large headers is refused."""
    message = f"the request line and the headers have more than {MAX_HEAD_BYTES:,} bytes; "
    return message + ("delete the cookies of this host, or use another host name" if for_browser else "send fewer")


async def _send(
    scope: Scope, send: Send, status: int, message: str, code: str, more: dict[str, str] | None = None
) -> None:
    fields, content = refusal(status, message, code, for_browser=_is_browser(scope))
    encoded = [(name.encode(), value.encode()) for name, value in (fields | (more or {})).items()]
    start: Message = {"type": "http.response.start", "status": status, "headers": encoded}
    await send(start)
    await send({"type": "http.response.body", "body": content})


def _is_browser(scope: Scope) -> bool:
    return "text/html" in (header(scope, b"accept") or "")
