"""Slow, greedy and malformed clients, over real sockets."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse

from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.processes import sockets
from models.settings import Settings
from producer.server.context import ServerContext
from producer.server.process import connections
from producer.server.process.connections import ClientConnection
from producer.server.requests.bodies import StreamedBody
from tests.factories.http_servers import connect, read_to_end, serve_in_thread
from tests.servers import WAIT_TIMEOUT_SECONDS, wait_until

SLOW_SECONDS = 0.3
STEP_SECONDS = 0.1
OK = b"HTTP/1.1 200 OK"
GET = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
BROWSER = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/html,*/*\r\n\r\n"
POST = b"POST /stream HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5000\r\n\r\n"


class Clock:
    """The server's clock, which stands still until a test lets it run: a busy machine makes no client slow.

    looks: how often the server read it; it does so once each time that it looks for slow clients
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self.is_running = False
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        self.now += STEP_SECONDS * self.is_running
        return self.now

    def wait_for_look(self) -> None:
        """Wait until the server has looked for slow clients at the time that it is now."""
        enough = self.looks + 2
        wait_until(lambda: self.looks >= enough, "the server to look for slow clients")


class Trial:
    """Routes that read and write streams, and what became of them."""

    def __init__(self, context: ServerContext) -> None:
        self.context = context
        self.received_bytes = 0
        self.sent_bytes = 0
        self.followers = 0

    def add(self, app: FastAPI) -> None:
        @app.post("/stream")
        async def count_bytes(request: Request, _body: StreamedBody) -> int:
            async for chunk in request.stream():
                self.received_bytes += len(chunk)
            return self.received_bytes

        @app.get("/endless")
        async def send_for_ever() -> StreamingResponse:
            return StreamingResponse(self.chunks())

        @app.get("/follow")
        async def follow() -> StreamingResponse:
            return StreamingResponse(self.wait())

    def wait_for_bytes(self, count: int) -> None:
        """Wait until so many bytes of a body were read."""
        wait_until(lambda: self.received_bytes == count, "the body to be read")

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            self.sent_bytes += 65_536
            yield b"x" * 65_536

    async def wait(self) -> AsyncIterator[bytes]:
        self.followers += 1
        yield b"begin\n"
        await self.context.stopping.wait()
        yield b"come again\n"


@pytest.fixture
def slow_client_seconds() -> float:
    """Longer than the test's own client pauses on a busy machine."""
    return 60.0


@pytest.fixture
def trial(sqlite_url: str, slow_client_seconds: float) -> Iterator[Trial]:
    database = Database(sqlite_url)
    settings = Settings.load(slow_client_seconds=slow_client_seconds, max_client_connections=20, grace_seconds=100)
    yield Trial(ServerContext(settings, database, Catalogue({})))
    database.close()


@pytest.fixture
def port(trial: Trial) -> Iterator[int]:
    with serve_in_thread(trial.context, trial.add) as port:
        yield port


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(connections, "time", clock)
    return clock


class TestSlowClients:
    @pytest.fixture
    def slow_client_seconds(self) -> float:
        return SLOW_SECONDS

    @pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nx-slow: ", GET + b"GET /again"])
    def test_that_do_not_finish_their_headers_are_disconnected(self, clock: Clock, port: int, head: bytes) -> None:
        with connect(port) as client:
            client.sendall(head)
            answer = client.recv(65_536) if GET in head else b""
            clock.is_running = True

            assert (answer + read_to_end(client)).count(OK) == head.count(GET)

    def test_that_send_their_headers_byte_by_byte_are_disconnected(self, clock: Clock, port: int) -> None:
        clock.is_running = True
        with connect(port) as client, pytest.raises(OSError):  # noqa: PT012 - which byte fails is the kernel's choice
            for _ in range(6_000):
                client.sendall(b"a")
                time.sleep(0.05)

    def test_that_stop_within_a_body_are_disconnected(self, clock: Clock, port: int) -> None:
        with connect(port) as client:
            client.sendall(POST + b"x" * 2000)
            clock.is_running = True

            assert OK not in read_to_end(client)

    def test_that_do_not_read_are_disconnected(
        self, clock: Clock, port: int, trial: Trial, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        is_lost, lose = threading.Event(), ClientConnection.connection_lost

        def connection_lost(self: ClientConnection, error: Exception | None) -> None:
            lose(self, error)
            is_lost.set()

        monkeypatch.setattr(ClientConnection, "connection_lost", connection_lost)
        with connect(port, receive_buffer=4096) as client:
            client.sendall(b"GET /endless HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            wait_until(lambda: trial.sent_bytes > 0, "the response to begin")
            clock.is_running = True
            assert is_lost.wait(WAIT_TIMEOUT_SECONDS)

            assert len(read_to_end(client)) < trial.sent_bytes  # the rest was dropped with the connection

    def test_that_wait_for_an_answer_are_left_alone(self, clock: Clock, port: int, trial: Trial) -> None:
        with connect(port) as client:
            client.sendall(b"GET /follow HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            wait_until(lambda: trial.followers > 0, "the response to begin")
            clock.now += 100 * SLOW_SECONDS
            clock.wait_for_look()
            client.setblocking(False)

            with pytest.raises(BlockingIOError):  # and not closed
                read_to_end(client)


class TestClientsThatGoOn:
    @pytest.fixture
    def slow_client_seconds(self) -> float:
        return 1.0

    def test_are_served(self, clock: Clock, port: int, trial: Trial, slow_client_seconds: float) -> None:
        with connect(port) as client:
            client.sendall(POST.replace(b"5000", b"600000"))
            for number in range(10):
                client.sendall(b"x" * 60_000)
                trial.wait_for_bytes(60_000 * (number + 1))
                clock.now += slow_client_seconds
                clock.wait_for_look()

            assert client.recv(4096).startswith(OK)


def test_over_the_limit_a_client_gets_an_answer_in_our_shape(port: int) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(connect(port))
            client.sendall(GET)
            assert client.recv(4096).startswith(OK)
        extra = stack.enter_context(connect(port))
        extra.sendall(GET)
        head, _, body = read_to_end(extra).partition(b"\r\n\r\n")
        browser = stack.enter_context(connect(port))
        browser.sendall(BROWSER)
        page_head, _, page = read_to_end(browser).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 503")
    assert page_head.startswith(b"HTTP/1.1 503")
    assert b"default-src 'none'" in page_head
    assert b"<p>The server has as many connections as it may have" in page
    assert b"retry-after: 2" in head
    assert json.loads(body)["error"]["code"] == "too_many_connections"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"no request at all\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\x00b\r\n\r\n",
        b"GET /" + b"a" * 40_000,
        b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: %s\r\n" % (number, b"y" * 100) for number in range(400)),
    ],
)
def test_what_is_no_request_is_refused_in_our_shape(port: int, request_bytes: bytes) -> None:
    with connect(port) as client:
        client.sendall(request_bytes)
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400")
    assert b"server:" not in head.lower()
    assert json.loads(body)["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("parts", [1, 5])
def test_a_browser_with_too_many_cookies_gets_a_page(port: int, parts: int) -> None:
    """Given a host name that many services share, as localhost."""
    request = BROWSER.replace(b"\r\n\r\n", b"\r\ncookie: " + b"a=b; " * 7_000 + b"\r\n\r\n")
    size = -(-len(request) // parts)
    with connect(port) as client:
        for start in range(0, len(request), size):
            client.sendall(request[start : start + size])
            time.sleep(0.01 * (parts > 1))
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400")
    assert b"content-type: text/html" in head.lower()
    assert b"delete the cookies of this host" in body


def test_a_body_with_two_lengths_is_refused_and_nothing_after_it_is_read(port: int) -> None:
    two_lengths = b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    with connect(port) as client:
        client.sendall(b"POST /stream HTTP/1.1\r\nhost: 127.0.0.1\r\n" + two_lengths + GET)
        received = read_to_end(client)

    assert received.startswith(b"HTTP/1.1 400")
    assert received.count(b"HTTP/1.1") == 1


def test_no_banner_names_the_server(port: int) -> None:
    with connect(port) as client:
        client.sendall(GET)

        assert b"server:" not in client.recv(4096).lower()


def test_followers_end_when_the_server_stops(trial: Trial) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(serve_in_thread(trial.context, trial.add))
        client: socket.socket = connect(port)
        client.sendall(b"GET /follow HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        received = client.recv(4096)
        while not trial.followers:
            time.sleep(0.01)
        started = time.monotonic()
        stack.close()
        assert time.monotonic() - started < 50  # well before grace_seconds
        with client:
            received += read_to_end(client)

    assert b"come again" in received
    assert asyncio.iscoroutinefunction(trial.context.stopping.wait)


def test_a_response_does_not_wait_for_the_client_s_acknowledgement() -> None:
    [listener] = sockets.open_sockets("127.0.0.1", 0)
    with listener, connect(listener.getsockname()[1]), listener.accept()[0] as connection:
        transport = SimpleNamespace(get_extra_info=lambda _name: connection)

        connections._set_options(transport)

        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
