"""Outages of the database: a server that is stopped, frozen or cut off, and a locked file."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import httpx2
import psutil
import pytest
from fastapi import FastAPI
from sqlalchemy import make_url, text

from models import schema
from models.db import Database, PoolOptions
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.server.access import Reader
from producer.server.app import create_app
from producer.server.context import ServerContext
from producer.server.requests import outages
from tests.factories.http_servers import serve_in_thread
from tests.servers import WAIT_TIMEOUT_SECONDS, Postgres, wait_until

ANSWER_SECONDS = 60.0  # of a promise of one second, on a machine that may be busy; without it, minutes


class Proxy:
    """A TCP proxy that swallows all packets while `is_dead`, as a dead network does."""

    def __init__(self, port: int) -> None:
        self.is_dead = False
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                self._sockets.append(server)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65_536):
                while self.is_dead:
                    time.sleep(0.05)
                target.sendall(chunk)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.is_dead = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()  # so that it opens no further sockets
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class Served:
    """A server over a database, and requests to it."""

    def __init__(self, port: int) -> None:
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_TIMEOUT_SECONDS)

    def get(self, path: str = "/trial") -> httpx2.Response:
        return self.client.get(path)

    def refuses_quickly(self) -> bool:
        """Whether many requests at once are refused within a second or so; the first ones may be in flight already."""
        started = time.monotonic()
        responses: list[httpx2.Response] = []
        threads = [threading.Thread(target=lambda: responses.append(self.get())) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - started
        assert {response.status_code for response in responses} == {503}
        assert {response.json()["error"]["code"] for response in responses} == {"unreachable"}
        assert {response.headers["retry-after"] for response in responses} == {"1"}
        return seconds < ANSWER_SECONDS

    def is_well(self) -> bool:
        return self.get().status_code == 200


@contextmanager
def served(url: str) -> Iterator[Served]:
    database = Database(url, connect_timeout_seconds=2, pool=PoolOptions(4))

    def add(app: FastAPI) -> None:
        @app.get("/trial")
        def trial(_principal: Reader) -> int:
            with database.read() as connection:
                return int(connection.scalar(text("SELECT count(*) FROM batches")))

        @app.post("/trial")
        def write(_principal: Reader) -> int:
            with database.write() as connection:
                return connection.execute(text("DELETE FROM batches")).rowcount

    context = ServerContext(Settings.load(grace_seconds=5), database, Catalogue({}))
    with serve_in_thread(context, add, create_app) as port:
        served = Served(port)
        with served.client:
            wait_until(served.is_well, "the server to answer")
            yield served
    database.close()


@pytest.fixture
def postgres(own_postgres: Postgres) -> Iterator[Postgres]:
    schema.upgrade(own_postgres.create_database("batchmill"))
    yield own_postgres
    for process in psutil.Process(own_postgres.pid).children(recursive=True) if own_postgres._process else []:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGCONT)


def freeze(server: Postgres, number: signal.Signals) -> None:
    for process in (psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)):
        with suppress(psutil.Error):
            process.send_signal(number)


def test_a_postgresql_that_is_stopped_or_frozen_or_cut_off(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "BREAK_SECONDS", 0.5)
    threads = threading.active_count()  # some of earlier tests may be idle yet
    url = make_url(postgres.url("batchmill"))
    with closing(Proxy(postgres.port)) as proxy, served(str(url.set(port=proxy.port))) as server:
        postgres.stop("immediate")
        assert server.refuses_quickly()
        assert server.get("/readyz").json()["parts"] == {"server": "ok", "database": "unreachable"}
        assert server.get("/healthz").status_code == 200
        assert "batchmill_database_up 0.0" in server.get("/metrics").text
        postgres.start()
        wait_until(server.is_well, "the server to recover from a stopped database")

        freeze(postgres, signal.SIGSTOP)
        assert server.refuses_quickly()
        assert server.refuses_quickly()
        assert server.get("/readyz").status_code == 503
        assert "batchmill_database_up 0.0" in server.get("/metrics").text
        freeze(postgres, signal.SIGCONT)
        wait_until(server.is_well, "the server to recover from a frozen database")
        wait_until(lambda: "batchmill_database_up 1.0" in server.get("/metrics").text, "the metrics to recover")

        proxy.is_dead = True
        assert server.refuses_quickly()
        wait_until(lambda: threading.active_count() < threads + 60, "threads to be bounded")
        proxy.is_dead = False
        wait_until(server.is_well, "the server to recover from a dead network")
        ready = {"status": "ok", "parts": {"server": "ok", "database": "ok", "tables": "ok"}}
        wait_until(lambda: server.get("/readyz").json() == ready, "the server to be ready")


def test_a_locked_sqlite_answers_503_and_reads_go_on(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.dialects.sqlite.MIN_BUSY_TIMEOUT_SECONDS", 0.5)
    with served(sqlite_url) as server:
        other = Database(sqlite_url)
        with other.write():
            response = server.client.post("/trial")
            assert (response.status_code, response.json()["error"]["code"]) == (503, "unreachable")
            wait_until(server.is_well, "reads to go on")
        other.close()
        wait_until(lambda: server.client.post("/trial").status_code == 200, "writes to go on")


def test_tables_of_another_version_are_not_ready(sqlite_url: str) -> None:
    with served(sqlite_url) as server:
        database = Database(sqlite_url)
        with database.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        database.close()

        expected = f"of version 0001, and this server needs {schema.HEAD}"
        wait_until(lambda: server.get("/readyz").json()["parts"].get("tables") == expected, "the version to be read")

        assert server.get("/readyz").status_code == 503
