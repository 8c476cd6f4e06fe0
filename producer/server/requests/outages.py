"""Outages of the database: every request is answered within a second, and the server recovers by itself.

A database that refuses connections raises an error at once. A frozen one, or one behind a dead network, raises none for
a long time, and each request would keep a thread. So a request without an answer after SUSPECT_SECONDS makes the watch
ask the database itself. If it does not answer within PING_SECONDS, all waiting requests get the status 503, and so do
new ones, without a thread, until it answers again. While requests are answered quickly, nothing is asked.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import event, text
from sqlalchemy.exc import DisconnectionError

from models.db import Database
from models.errors import BatchmillError, Unreachable
from models.privacy import urls
from producer.server.errors import DATABASE_UNREACHABLE, error_response
from producer.server.requests.messages import App, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

SUSPECT_SECONDS = 0.2
PING_SECONDS = 0.7
AGAIN_SECONDS = 0.5  # between two questions while the database is out
PATIENT_SECONDS = 2.0  # between two while it answers, and no other request begins to wait long
SHORT_SECONDS = 0.1  # between two at least
BREAK_SECONDS = 5.0  # an outage this long breaks connections, so that their threads are free again
CONNECT_SECONDS = 2.0  # libpq takes no less
MAX_PINGS = 4  # that wait for an answer at once
UNAVAILABLE = 503
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
OPEN_ROOT = "/static/"  # of files in memory, which the page about an outage needs

SELECT_VERSION = "SELECT version_num FROM alembic_version"


@dataclass(eq=False, slots=True)
class _Exchange:
    """A request that may be answered in place of the application, which goes on without effect."""

    scope: Scope
    receive_on: Receive
    send_on: Send
    is_receiving: bool = False  # its body, so that it waits for the client and not for the database
    has_started: bool = False
    was_failed: bool = False
    was_unavailable: bool = False  # answered with the status 503
    timer: asyncio.TimerHandle | None = None

    async def receive(self) -> Message:
        self.is_receiving = True
        message = await self.receive_on()
        self.is_receiving = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if not self.was_failed:
            self.has_started = True
            self.was_unavailable |= message.get("status") == UNAVAILABLE
            await self.send_on(message)

    async def fail(self, error: Unreachable) -> None:
        if not self.has_started:
            self.was_failed = True
            await error_response(error)(self.scope, self.receive_on, self.send_on)


@dataclass(eq=False)
class DatabaseWatch:
    """Knows whether the database answers; used in the event loop only.

    database: whose connections are broken in a long outage
    pings: the same database, with connections of the watch's own
    ping_seconds: how long it may take to answer
    """

    database: Database
    pings: Database
    ping_seconds: float = PING_SECONDS
    out_since: float | None = None
    _waiting: set[_Exchange] = field(default_factory=set)
    _task: "asyncio.Task[None] | None" = None
    _in_use: dict[Any, Any] = field(default_factory=dict)  # connections of the driver, by the pool's records
    _outages: int = 0  # so many that broke connections
    _pinging: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._breaks = False
        self._threads = ThreadPoolExecutor(MAX_PINGS, "ping")
        self._suspected = asyncio.Event()
        self._answers = 0  # statements of requests that the database has answered
        event.listen(self.database.engine, "after_cursor_execute", self._count_answer)
        self.error = Unreachable(DATABASE_UNREACHABLE)
        if self.database.engine.dialect.name == "postgresql":
            for engine in (self.database.engine, self.pings.engine):
                event.listen(engine, "connect", self._note_connection)
                event.listen(engine, "checkout", self._note_use)
                event.listen(engine, "checkin", lambda _driver, record: self._in_use.pop(record, None))

    async def ask(self) -> str | None:
        """Ask the database for the version of its tables; raises BatchmillError, and Unreachable in PING_SECONDS."""
        with self._lock:
            if self._pinging >= MAX_PINGS:
                raise self.error  # earlier questions have no answer yet
            self._pinging += 1
        answer = asyncio.get_running_loop().run_in_executor(self._threads, self._read_version)
        done, _ = await asyncio.wait({answer}, timeout=self.ping_seconds)
        if not done and not answer.done():
            answer.add_done_callback(lambda late: late.exception())  # nobody waits for it any more
            raise self.error
        version = answer.result()
        self._note_answer()  # also for /readyz, so that requests are answered again as soon as it says so
        return version

    def suspect(self, exchange: _Exchange) -> None:
        """Answer a request that waits, should the database be out."""
        self._waiting.add(exchange)
        self._suspected.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch())

    def forget(self, exchange: _Exchange) -> None:
        """A request was answered."""
        self._waiting.discard(exchange)

    async def _watch(self) -> None:
        """Ask until no request waits and the database answers."""
        while self._waiting or self.out_since is not None or self._suspected.is_set():
            self._suspected.clear()
            answers = self._answers
            try:
                await self.ask()
            except Unreachable as error:
                if self._answers == answers:
                    await self._fail_waiting(error)
                else:  # this process is busy, and the database is not out
                    self._suspected.set()
            except BatchmillError:
                self._note_answer()  # it answers, though with a refusal, which requests report
            await self._pause()

    async def _fail_waiting(self, error: Unreachable) -> None:
        self._note_outage(error)
        for exchange in tuple(self._waiting):
            self._waiting.discard(exchange)
            with suppress(Exception):  # its client may be gone
                await exchange.fail(self.error)

    async def _pause(self) -> None:
        if self.out_since is not None:
            await asyncio.sleep(AGAIN_SECONDS)
            return
        await asyncio.sleep(SHORT_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._suspected.wait(), PATIENT_SECONDS)

    def _read_version(self) -> str | None:
        try:
            with self.pings.statement() as connection:
                version: str | None = connection.scalar(text(SELECT_VERSION))
                return version
        finally:
            self._end_ping()

    def _end_ping(self) -> None:
        with self._lock:
            self._pinging -= 1
            if not self._pinging:
                self.pings.close()  # the next question shows whether a new connection can be had

    def _count_answer(self, *_: Any) -> None:
        self._answers += 1

    def _note_connection(self, _driver: Any, record: Any) -> None:
        record.info["outages"] = self._outages

    def _note_use(self, driver: Any, record: Any, _proxy: Any) -> None:
        if record.info.get("outages", 0) != self._outages:  # idle in a long outage, it may lead nowhere
            raise DisconnectionError("the connection is older than an outage")  # the pool opens another one
        self._in_use[record] = driver

    def _note_outage(self, error: Unreachable) -> None:
        now = asyncio.get_running_loop().time()
        if self.out_since is None:
            self.out_since = now
            address = urls.redact_url(self.database.url)
            message = f"the database at {address} does not answer" if error is self.error else str(error)
            log.warning("database.unreachable", operation="server", error=message, retry_seconds=AGAIN_SECONDS)
        elif now - self.out_since > BREAK_SECONDS:
            self._breaks = True
            for driver in tuple(self._in_use.values()):
                _break_connection(driver)

    def _note_answer(self) -> None:
        if self.out_since is not None:
            seconds = round(asyncio.get_running_loop().time() - self.out_since, 1)
            log.info("database.reachable", seconds=seconds)
        self.out_since = None
        if self._breaks:
            self._breaks = False
            self._outages += 1


class OutageGuard:
    """Answers with the status 503 while the database is out."""

    def __init__(self, app: App, watch: DatabaseWatch, open_paths: Collection[str] = OPEN_PATHS) -> None:
        self._app = app
        self._watch = watch
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        path = scope.get("path", "")
        if scope["type"] != "http" or path in self._open_paths or path.startswith(OPEN_ROOT):
            await self._app(scope, receive, send)
            return
        if self._watch.out_since is not None:
            await error_response(self._watch.error)(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        self._suspect_later(exchange)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            if exchange.timer is not None:
                exchange.timer.cancel()
            if exchange.was_unavailable:  # the watch finds out whether the database is out, and says so once
                self._watch.suspect(exchange)
            self._watch.forget(exchange)

    def _suspect_later(self, exchange: _Exchange) -> None:
        exchange.timer = asyncio.get_running_loop().call_later(SUSPECT_SECONDS, self._suspect, exchange)

    def _suspect(self, exchange: _Exchange) -> None:
        if exchange.is_receiving:
            self._suspect_later(exchange)
        elif not exchange.has_started:
            self._watch.suspect(exchange)


def _break_connection(driver: Any) -> None:
    """Let a thread that waits for the database get an error: nothing comes over this connection any more."""
    with suppress(Exception), socket.socket(fileno=os.dup(driver.fileno())) as connection:
        connection.shutdown(socket.SHUT_RDWR)
