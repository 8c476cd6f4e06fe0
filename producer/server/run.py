"""One process that serves HTTP until SIGTERM or Ctrl-C."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import threading
from asyncio import sslproto
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

import structlog
import uvicorn
from anyio import to_thread
from fastapi import FastAPI

from models.errors import BatchmillError, SettingsError
from models.settings import Settings
from producer.server.app import create_app
from producer.server.context import ServerContext
from producer.server.pages.frame import warm_up
from producer.server.process import allocator, connections, refusals
from producer.server.process.instances import Instance
from producer.uploads.intake.intake_watch import IntakeWatch

log = structlog.get_logger(__name__)

KEEP_ALIVE_SECONDS = 60
TICKS_PER_SECOND = 10
MAX_THREADS = 12  # of requests; SQLAlchemy's pool for SQLite has 15 connections
MAX_CONNECTIONS = MAX_THREADS + 2  # of the database; two for heartbeats and other work beside requests
EXIT_INTERRUPTED = 128 + signal.SIGINT
# Writing a page of 1,000 rows keeps the interpreter busy for milliseconds, in which short requests wait for their turn.
# With Python's interval of 5 ms, 50 pollers got a status after twice the time.
SWITCH_SECONDS = 0.0005
# asyncio keeps a buffer of 256 KiB for each connection over TLS; a TLS record has at most 16 KiB.
TLS_BUFFER_BYTES = 16 * 1024
# A thread may wait for a database that does not answer; the process ends all the same.
EXIT_SECONDS = 2.0


class Server(uvicorn.Server):
    """Uvicorn's server, which asks followers to end when it stops."""

    def __init__(self, config: uvicorn.Config, context: ServerContext, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self.signals: list[int] = []
        self.error: BatchmillError | None = None
        self._context = context
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        to_thread.current_default_thread_limiter().total_tokens = MAX_THREADS
        if self.config.is_ssl:
            self._limit_tls(asyncio.get_running_loop())
        await super().startup(sockets)
        self._on_listening()
        warm_up.start()

    def _limit_tls(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bound what a connection takes before uvicorn, which has no option for it, knows of it."""
        seconds = self._context.settings.slow_client_seconds
        loop.create_server = partial(loop.create_server, ssl_handshake_timeout=seconds)  # type: ignore[method-assign]
        sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES

    async def on_tick(self, counter: int) -> bool:
        """Close connections that do not go on; uvicorn calls this ten times a second."""
        seconds = self._context.settings.slow_client_seconds
        if counter % max(1, min(TICKS_PER_SECOND, round(seconds * TICKS_PER_SECOND / 3))) == 0:
            connections.close_stalled(self.server_state.connections, seconds)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests finish for `grace_seconds`; followers end and come again."""
        self._context.stopping.set()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on the first signal, and at once on the second."""
        numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def exit_status(self) -> int:
        """The exit status of the process."""
        if self.error is not None:
            return self.error.exit_code
        return EXIT_INTERRUPTED if signal.SIGINT in self.signals else os.EX_OK

    def abort(self, error: BatchmillError) -> None:
        """Stop because of an error; any thread may call this."""
        log.error("server.aborted", error_code=error.code, error=str(error))
        self.error = error
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; the second signal waits for nothing."""
        del frame
        self.signals.append(sig)
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(
    context: ServerContext, sockets: Sequence[socket.socket], instance: Instance, on_listening: Callable[[], None]
) -> int:
    """Serve until a signal; returns 0, or 130 after Ctrl-C.

    on_listening: called once, when the sockets accept connections

    Raises OtherServer if another server uses the database with other files, now or later.
    """
    _raise_open_files_limit()
    sys.setswitchinterval(SWITCH_SECONDS)
    allocator.keep_freed_memory()
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # its warnings repeat what clients get wrong
    app = create_app(context, checks_origins=True)
    warm_up.build_routes(app)
    server = Server(configure(context, app), context, on_listening)
    gc.collect()
    gc.freeze()  # collections then look only at what requests make: a full one took longer than a status
    instance.on_refused = server.abort
    instance.register()
    try:
        with instance.heartbeat_thread(), IntakeWatch(context.intake):
            asyncio.run(server.serve(list(sockets)))
        status = server.exit_status
        _exit_soon(status)
    finally:
        instance.unregister()
    if server.error is not None:
        raise server.error
    log.info("server.stopped", exit_status=status)
    return status


def _exit_soon(status: int) -> None:
    """End this process within seconds, even if a thread waits for the database."""
    timer = threading.Timer(EXIT_SECONDS, os._exit, (status,))
    timer.daemon = True
    timer.start()


def _raise_open_files_limit() -> None:
    """Allow as many open files as the system lets this user have: each connection takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS names no number
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def check_tls(settings: Settings) -> bool:
    """Whether the server encrypts connections. Raises SettingsError if its certificate or key can't be used."""
    certificate, key = settings.serve_tls_cert, settings.serve_tls_key
    if certificate is None and key is None:
        return False
    if certificate is None or key is None:
        raise SettingsError("TLS needs both a certificate and its key: --tls-cert FILE --tls-key FILE")
    for file in (certificate, key):
        try:
            file.read_bytes()
        except OSError as error:
            raise SettingsError(f"the TLS file {file} can't be read: {error.strerror}") from None
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError:
        raise SettingsError(
            f"{certificate} and {key} are no certificate and unencrypted key in PEM form that belong together"
        ) from None
    return True


def configure(context: ServerContext, app: FastAPI) -> uvicorn.Config:
    """The options of uvicorn."""
    settings = context.settings
    return uvicorn.Config(
        app,
        http=connections.connection_class(settings.max_client_connections),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the application does it, for the proxies of the settings
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
        h11_max_incomplete_event_size=refusals.MAX_HEAD_BYTES,
        ssl_certfile=settings.serve_tls_cert,
        ssl_keyfile=settings.serve_tls_key and str(settings.serve_tls_key),
    )
