"""A server with real sockets in a thread of the test's process."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from models.processes.sockets import open_sockets
from producer.server import run
from producer.server.context import ServerContext
from tests.factories.http_server import patient_app
from tests.servers import WAIT_TIMEOUT_SECONDS
from tests.threads import join_threads


@contextmanager
def serve_in_thread(
    context: ServerContext,
    add_routes: Callable[[FastAPI], object] = lambda _app: None,
    make_app: Callable[..., FastAPI] = patient_app,
) -> Iterator[int]:
    """Serve the application, with routes of the test's own beside; yields the port."""
    app = make_app(context, checks_origins=True)
    add_routes(app)
    listeners = open_sockets("127.0.0.1", 0)
    port = listeners[0].getsockname()[1]
    listening = threading.Event()
    server = run.Server(run.configure(context, app), context, listening.set)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(listeners)), daemon=True)
    thread.start()
    try:
        assert listening.wait(WAIT_TIMEOUT_SECONDS)
        yield port
    finally:
        server.should_exit = True
        thread.join(WAIT_TIMEOUT_SECONDS)
        assert not thread.is_alive()
        join_threads("warm-up")


def connect(port: int, *, receive_buffer: int | None = None) -> socket.socket:
    """A connection to the server, whose calls end after a minute."""
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection, in whatever way."""
    received = b""
    try:
        while chunk := connection.recv(65_536):
            received += chunk
    except ConnectionResetError:
        pass
    return received
