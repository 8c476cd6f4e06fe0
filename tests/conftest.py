"""What every test has: an environment without the user's settings, and real databases and brokers on request."""

import logging
import os
import shutil
import signal
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from models.log import BATCHMILL_LOGGERS
from tests.servers import Postgres, PostgresDatabases, RedisDatabase, Valkey

REDIS_VARIABLE = "BATCHMILL_TEST_REDIS_URL"  # names a server to use instead of an own one
DATABASE_VARIABLE = "BATCHMILL_TEST_DATABASE_URL"  # the same; its role must be allowed to create databases


settings.register_profile("batchmill", deadline=None)  # a loaded machine is slow, and no test is about time
settings.load_profile("batchmill")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in the background has Ctrl-C ignored, and every program that they start inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def batchmill_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hide the user's own settings and data from the test; returns the home that it has instead."""
    for name in list(os.environ):
        if name.upper().startswith("BATCHMILL_") and name not in (REDIS_VARIABLE, DATABASE_VARIABLE):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("BATCHMILL_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands that run in the tests' own process configure logs; the next test must not inherit that."""
    root = logging.getLogger()
    level = root.level
    yield
    structlog.reset_defaults()
    root.setLevel(level)
    for name in BATCHMILL_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresDatabases]:
    """The PostgreSQL that the tests share: they may create databases in it, but not stop it."""
    if url := os.environ.get(DATABASE_VARIABLE):
        yield PostgresDatabases(url)
        return
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisDatabase]:
    """The Redis or Valkey that the tests share: they may write to it, but neither stop nor configure it."""
    if url := os.environ.get(REDIS_VARIABLE):
        yield RedisDatabase(url)
        return
    with Valkey() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL of the test's own, to stop and start; it has no tables."""
    with Postgres() as server:
        yield server


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A Valkey of the test's own, to pause, kill and configure."""
    with Valkey() as server:
        yield server


@pytest.fixture
def redis_url(valkey_server: RedisDatabase) -> str:
    """An empty Redis database."""
    valkey_server.flush()
    return valkey_server.url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database with our tables; the test runs once on each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh SQLite database with our tables."""
    path = tmp_path / "batchmill.db"
    shutil.copy(sqlite_template, path)  # with its mode
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgres_server: PostgresDatabases, postgresql_template: str) -> Iterator[str]:
    """A fresh PostgreSQL database with our tables."""
    name = unique_database_name("batchmill_test")
    yield postgres_server.create_database(name, template=postgresql_template)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with our tables, made once by the migrations, to be copied."""
    from models.schema import upgrade

    path = tmp_path_factory.mktemp("template") / "batchmill.db"
    upgrade(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # a copy takes the file alone, not its log
    return path


@pytest.fixture(scope="session")
def postgresql_template(postgres_server: PostgresDatabases) -> Iterator[str]:
    """The name of a PostgreSQL database with our tables, made once by the migrations, to be cloned."""
    from models.schema import upgrade

    name = unique_database_name("batchmill_template")
    upgrade(postgres_server.create_database(name))
    yield name
    postgres_server.drop_database(name)


def unique_database_name(prefix: str) -> str:
    # A server given to us may be used by other runs too.
    return f"{prefix}_{uuid.uuid4().hex[:12]}"
