"""Hosts and origins: while no keys exist, no web page may reach a server on the machine of its reader.

A page can send requests to 127.0.0.1, and under DNS rebinding its own host name leads there too. The `Host` header and
the `Origin` header, which browsers set and pages can't change, tell such requests apart. With keys, the key does.
"""

from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool

from producer.server.errors import error_body
from producer.server.process.exposure import is_loopback
from producer.server.requests.messages import App, Receive, Scope, Send, header, send_json


class OriginCheck:
    """Refuses requests of foreign pages.

    needs_key: whether requests need a key, so that they are safe from pages; may ask the database
    allowed: origins that may call the server, as the setting `cors_origins` has them
    """

    def __init__(self, app: App, needs_key: Callable[[], bool], allowed: Collection[str]) -> None:
        self._app = app
        self._needs_key = needs_key
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            refusal = find_refusal(header(scope, b"host"), header(scope, b"origin"), self._allowed)
            if refusal and not await run_in_threadpool(self._needs_key):
                await send_json(send, 403, error_body(403, refusal, "foreign_origin"), {"x-should-retry": "false"})
                return
        await self._app(scope, receive, send)


def find_refusal(host: str | None, origin: str | None, allowed: Collection[str]) -> str | None:
    """Why a request without a key is refused, in a sentence; None = it is not. Pure."""
    if host is not None and not is_loopback(_host_name(host)):
        return "without API keys the server answers only at 127.0.0.1 and localhost; make a key: batchmill keys create"
    if origin is None or origin in allowed or origin.rstrip("/") in allowed:
        return None
    if origin.partition("://")[2] == host:
        return None
    return "without API keys web pages of other origins are refused; make a key, or name the origin in cors_origins"


def _host_name(host: str) -> str:
    """The name in a Host header, without its port; empty if it can't be read."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
