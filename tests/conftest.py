"""Fixtures of every test: an environment without user settings, and real databases and brokers on request."""

import gc
import itertools
import logging
import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings
from sqlalchemy import text

from batchmill import Client
from models.db import Database
from models.dialects import sqlite
from models.log import BATCHMILL_LOGGERS
from models.tables.metadata import METADATA
from tests.factories import minilm
from tests.reusable_databases import ReusableDatabases, unique_database_name
from tests.servers import WAIT_TIMEOUT_SECONDS, Postgres, PostgresDatabases, RedisDatabase, Valkey

REDIS_VARIABLE = "BATCHMILL_TEST_REDIS_URL"  # names a server to use instead of a new one
DATABASE_VARIABLE = "BATCHMILL_TEST_DATABASE_URL"  # the same; its role must be allowed to create databases

PAGES = Path(__file__).parent / "integration" / "server" / "pages"
ON_BOTH_DATABASES = ("test_handle.py", "test_all_pages.py", "test_sign_in.py")

WAITING_TESTS = ("tests/e2e/", "tests/faults/")

DEVICE_VARIABLE = "BATCHMILL_TEST_DEVICE"  # the device of the tests marked `gpu`, by default cuda

HOME_NUMBERS = itertools.count()
WORKER_THREADS = frozenset({"switcher", "claim", "device", "write", "watchdog", "maintenance"})

# Torch would start a thread per core in each of the parallel test processes, and those spend most of their time waiting
# for each other. It reads the variable when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Hundreds of processes that the tests start would each compile our modules: a third of the time of a start. Each of the
# parallel test processes would rewrite the assertions of all tests: a third of the time of collecting them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A loaded machine is slow, and no test depends on time. Every run tries the same examples, so that one which fails has
# to do with the change; `--hypothesis-profile=default` tries others.
settings.register_profile("batchmill", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("batchmill")

sqlite.SYNCHRONOUS = "OFF"  # no test cuts the power, and waiting for the disk takes longer than the statements

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in the background ignores Ctrl-C, and every child process inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while thousands of tests are collected: there is none, and looking takes a quarter of it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.set_threshold(10_000, 20, 20)  # looking for garbage took a twentieth of all tests' time
        gc.enable()


def pytest_collection_finish() -> None:
    """Exempt all imported modules and collected tests from garbage collection, which workers run after each model."""
    gc.collect()
    gc.freeze()
    gc.freeze = gc.unfreeze = lambda: None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests of pages and of a client over HTTP on SQLite alone, where those of the SQL behind them run on both.

    On PostgreSQL too run a client's handle, and all pages once with rows on them. Tests that wait for processes go
    first: one of the parallel test processes has them while the others compute. At the end, all would wait.
    """

    def is_needed(item: pytest.Item) -> bool:
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if params.get("database_url") != "postgresql" or item.path.name in ON_BOTH_DATABASES:
            return True
        return params.get("client") != "http" and not item.path.is_relative_to(PAGES)

    needed = [item for item in items if is_needed(item)]
    items[:] = sorted(needed, key=lambda item: not item.nodeid.startswith(WAITING_TESTS))


@pytest.fixture(scope="session", autouse=True)
def shared_models_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let all processes of this run unpack large models once."""
    base = tmp_path_factory.getbasetemp()
    minilm.shared_folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(autouse=True)
def weights_of_one_test() -> Iterator[None]:
    """Let no test have the weights of another one's model, which it may have changed in place."""
    yield
    if (module := sys.modules.get("worker.loading.shared_weights")) is not None:
        module._bases.clear()


@pytest.fixture(autouse=True)
def ended_threads() -> Iterator[None]:
    """Fail a test that leaves a thread of a worker running: it would use the database and the patches of others."""
    earlier = threading.enumerate()
    yield
    for thread in threading.enumerate():
        if thread.name in WORKER_THREADS and thread not in earlier:
            thread.join(WAIT_TIMEOUT_SECONDS)
            assert not thread.is_alive(), f"the thread {thread.name!r} outlived its test"


@pytest.fixture(autouse=True)
def batchmill_home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Hide the user's settings and data from the test; returns the replacement home, which does not exist."""
    for name in list(os.environ):
        if name.upper().startswith("BATCHMILL_") and name not in (REDIS_VARIABLE, DATABASE_VARIABLE, DEVICE_VARIABLE):
            monkeypatch.delenv(name)
    if "tmp_path" in request.fixturenames:
        folder: Path = request.getfixturevalue("tmp_path")
        home = folder / "home"
    else:  # most tests write nothing, and making and finding their folders would take longer than they do
        home = tmp_path_factory.getbasetemp() / f"home-{next(HOME_NUMBERS)}"
    monkeypatch.setenv("BATCHMILL_HOME", str(home))
    return home


def configure_test_logs() -> None:
    """Log as structlog does by default, but not with the values of all variables: rendering them takes seconds."""
    structlog.reset_defaults()
    *processors, _ = structlog.get_config()["processors"]
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure([*processors, renderer])


configure_test_logs()


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Restore logging after each test, because commands in the same process configure it."""
    root = logging.getLogger()
    level = root.level
    yield
    configure_test_logs()
    changed = {root: level} | {logging.getLogger(name): logging.NOTSET for name in BATCHMILL_LOGGERS}
    for logger, level_before in changed.items():
        if logger.level != level_before:  # setting a level visits all loggers, of which torch has hundreds
            logger.setLevel(level_before)
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresDatabases]:
    """Yield the shared PostgreSQL; tests may create databases in it, but not stop it."""
    if url := os.environ.get(DATABASE_VARIABLE):
        yield PostgresDatabases(url)
        return
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisDatabase]:
    """Yield the shared Redis or Valkey; tests may write to it, but neither stop nor configure it."""
    if url := os.environ.get(REDIS_VARIABLE):
        yield RedisDatabase(url)
        return
    with Valkey() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """Yield a PostgreSQL for one test, to stop and start; it has no tables."""
    with Postgres() as server:
        yield server


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """Yield a Valkey for one test, to pause, kill and configure."""
    with Valkey() as server:
        yield server


@pytest.fixture
def redis_url(valkey_server: RedisDatabase) -> str:
    """Return the URL of an empty Redis database."""
    valkey_server.flush()
    return valkey_server.url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a fresh database with our tables; the test runs once on each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Yield the test's database; commands in the test's process use it too."""
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", database_url)
    database = Database(database_url, connect_timeout_seconds=60.0)  # a busy machine is no outage
    yield database
    database.close()


@pytest.fixture(params=["sql", "http"])
def client(request: pytest.FixtureRequest, database: Database) -> Iterator[Client]:
    """Yield a client of the test's database, over SQL and over HTTP; no Redis answers either.

    What differs between the two is listed in `tests/differences_over_http.py`.
    """
    from tests.factories import served_app
    from tests.factories.http_server import UNREACHABLE_REDIS

    if request.param == "sql":
        with Client(database.url, UNREACHABLE_REDIS) as client:
            yield client
    else:
        with served_app.served(database) as url, Client(url) as client:
            yield client


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """Return the URL of a fresh SQLite database with our tables."""
    path = tmp_path / "batchmill.db"
    shutil.copy(sqlite_template, path)  # including its mode
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgres_server: PostgresDatabases, reusable_databases: ReusableDatabases) -> Iterator[str]:
    """Yield the URL of a PostgreSQL database with our tables, all empty; a test may change it in any way."""
    name, new_state = reusable_databases.acquire()
    yield postgres_server.url(name)
    reusable_databases.release(name, new_state)


@pytest.fixture
def pgvector_database(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Yield a PostgreSQL in which a test may create the extension `vector`; commands use it too."""
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", postgresql_url)
    database = Database(postgresql_url)
    with database.read() as connection:
        if not connection.scalar(text("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")):
            pytest.skip("this PostgreSQL has no pgvector")
    yield database
    database.close()


@pytest.fixture(scope="session")
def reusable_databases(postgres_server: PostgresDatabases, postgresql_template: str) -> Iterator[ReusableDatabases]:
    """Yield the databases that `postgresql_url` hands out."""
    databases = ReusableDatabases(postgres_server, postgresql_template, METADATA)
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a SQLite file with our tables, migrated once, to copy."""
    from models.schema import upgrade

    path = tmp_path_factory.mktemp("template") / "batchmill.db"
    upgrade(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # a copy takes only the file, not its log
    return path


@pytest.fixture(scope="session")
def postgresql_template(postgres_server: PostgresDatabases) -> Iterator[str]:
    """Yield the name of a PostgreSQL database with our tables, migrated once, to clone."""
    from models.schema import upgrade

    name = unique_database_name("batchmill_template")
    upgrade(postgres_server.create_database(name))
    yield name
    postgres_server.drop_database(name)
