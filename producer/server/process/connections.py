"""Connections of clients: how many there may be, and when one that does not go on is closed.

uvicorn limits neither how long a request's headers may take, nor how slowly a body may come or be read. A client that
sends a byte now and then, on purpose or over a bad network, would keep its connection for ever.
"""

import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import structlog
from h11 import Data, EndOfMessage, LocalProtocolError, Response
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from producer.server.process import refusals
from producer.server.process.refusals import MAX_HEAD_BYTES
from producer.server.requests.messages import Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

MIN_WINDOW_BYTES = 32 * 1024  # of a body, in each window of BODY_PATIENCE * `slow_client_seconds`
BODY_PATIENCE = 2  # routes that read a stream give up earlier, with an answer
EXCESS_SHARE = 0.1  # so many connections over the limit get an answer; further ones are closed at once

# A client whose machine vanished is noticed within two minutes, also if nothing is sent to it.
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


class ClientConnection(H11Protocol):
    """A connection that knows since when it waits for its client.

    max_connections: the limit, set on a subclass by `connection_class`
    """

    max_connections = 2048

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_since: float | None = time.monotonic()  # when the client could begin, or began, a request
        self._writing_since: float | None = None  # when the client stopped reading
        self._received_bytes = 0
        self._served_app = self.app
        self.app = self._serve
        self._window: tuple[float, int] | None = None  # when a window of the body began, and the bytes before it

    def connection_made(self, transport: Any) -> None:
        """Take a new connection; over the limit it gets one answer, or none."""
        super().connection_made(transport)
        _set_options(transport)
        if len(self.connections) > self.max_connections:
            self._served_app = refusals.refuse_connection
            if len(self.connections) > self.max_connections * (1 + EXCESS_SHARE):
                transport.abort()

    def on_response_complete(self) -> None:
        """Wait for the next request, which may have begun already."""
        super().on_response_complete()
        if not self._has_request and self.conn.trailing_data[0]:
            self._head_since = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        self._received_bytes += len(data)
        if self._head_since is None and not self._has_request:
            self._head_since = time.monotonic()
        super().data_received(data)
        if self._has_request:
            self._head_since = None

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self._writing_since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self._writing_since = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, or has headers that are too large, in the shape of our errors."""
        received = self.conn.trailing_data[0]
        message = f"{msg.rstrip('.')}; it is no HTTP/1.1, or its headers are too large"
        if is_browser := b"text/html" in received and len(received) > MAX_HEAD_BYTES:
            message = refusals.head_message(for_browser=True)
        headers, content = refusals.refusal(400, message, "invalid_request", for_browser=is_browser)
        response = Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request")
        answer = (response, Data(data=content), EndOfMessage())
        try:
            for event in answer:
                self.transport.write(self.conn.send(event) or b"")
        except LocalProtocolError:  # a response was under way
            self.transport.abort()
        else:
            self.transport.close()

    def stall_reason(self, now: float, slow_client_seconds: float) -> str | None:
        """Why the connection is closed, in a word for the log; None = its client goes on, or the server is at work."""
        start = now - slow_client_seconds
        if self._writing_since is not None and self._writing_since < start:
            return "response"
        if self._head_since is not None:
            return "headers" if self._head_since < start else None
        return "body" if self._is_body_slow(now, now - BODY_PATIENCE * slow_client_seconds) else None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; a response whose client is gone ends, where uvicorn would read all of it for nobody."""
        cycle = self.cycle

        async def send_to_client(message: Message) -> None:
            if cycle.disconnected:
                raise ClientDisconnect
            await send(message)

        # A proxy in front may take the other one of the two lengths, and what follows for another request.
        has_two_lengths = {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}
        app = refusals.refuse_lengths if has_two_lengths else self._served_app
        if _head_bytes(scope) > MAX_HEAD_BYTES:  # h11 counts only one that comes in several parts
            app = refusals.refuse_head
        await app(scope, receive, send_to_client)

    @property
    def _has_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_body_slow(self, now: float, start: float) -> bool:
        cycle = self.cycle
        is_awaited = self._has_request and cycle.more_body and not cycle.waiting_for_100_continue
        if not is_awaited or self.flow.read_paused or self._window is None:
            self._window = (now, self._received_bytes) if is_awaited else None
            return False
        began_at, bytes_before = self._window
        if began_at >= start:
            return False
        is_slow = self._received_bytes - bytes_before < MIN_WINDOW_BYTES
        self._window = (now, self._received_bytes)
        return is_slow


def connection_class(most: int) -> type[ClientConnection]:
    """The class of connections of a server that keeps so many open."""
    return type("LimitedConnection", (ClientConnection,), {"max_connections": most})


def close_stalled(connections: Iterable[Any], slow_client_seconds: float) -> None:
    """Close the connections whose clients do not go on."""
    now = time.monotonic()
    for connection in list(connections):
        reason = connection.stall_reason(now, slow_client_seconds)
        if reason is not None:
            log.debug("connection.stalled", reason=reason)
            connection.transport.abort()  # `close` would wait until the client has read everything


def _head_bytes(scope: Scope) -> int:
    lengths = (len(name) + len(value) for name, value in scope["headers"])
    return sum(lengths) + len(scope["raw_path"]) + len(scope["query_string"])


def _set_options(transport: Any) -> None:
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):
        # asyncio sets it only for listeners that were made with a protocol number, and ours were not. Without it each
        # response waits up to 40 ms for the client's acknowledgement.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
