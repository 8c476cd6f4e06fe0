"""A server over a test's database, on a port of this machine and in a thread of this process."""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from models.db import Database
from producer.server import run
from producer.server.context import ServerContext
from tests.factories.http_server import app_over
from tests.servers import WAIT_TIMEOUT_SECONDS
from tests.threads import join_threads


@contextmanager
def served(database: Database, **settings: object) -> Iterator[str]:
    """Yield the address of a server with these settings."""
    # A request is logged once it was answered: meanwhile a test may have captured what a command prints.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    app = app_over(database, database.url, **settings)
    context: ServerContext = app.state.context
    with socket.create_server(("127.0.0.1", 0)) as listener:
        is_listening = threading.Event()
        config = run.configure(context, app)
        server = run.Server(config, context, is_listening.set)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            assert is_listening.wait(WAIT_TIMEOUT_SECONDS)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(WAIT_TIMEOUT_SECONDS)
            join_threads("warm-up")
            context.watch.close()
