"""The servers that the other tests rely on do what they say, and nothing of them stays behind."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from tests.servers import Postgres, PostgresDatabases, StopMode, Valkey, has_ended, redis_client, wait_until

ROOT = Path(__file__).parents[3]

# Starts both servers, freezes one, says which processes and folders there are, and waits to be ended.
OWNER = """
import signal
from tests.servers import Postgres, Valkey

signal.signal(signal.SIGINT, signal.default_int_handler)
postgres, valkey = Postgres(), Valkey()
postgres.start()
valkey.start()
valkey.pause()
print(postgres.folder, valkey.folder, sep="\\n", flush=True)
signal.pause()
"""


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def shared_memory(postmaster: psutil.Process) -> list[Path]:
    """The named segments that a server would leave behind if it were killed."""
    maps = [Path(part.path) for part in postmaster.memory_maps()]
    return [path for path in maps if path.is_relative_to("/dev/shm")]


@pytest.fixture
def database(postgres_server: PostgresDatabases) -> Iterator[str]:
    """The name of an empty database on the server that the tests share."""
    name = f"batchmill_test_{uuid.uuid4().hex[:12]}"
    postgres_server.create_database(name)
    yield name
    postgres_server.drop_database(name)


class TestPostgresDatabases:
    def test_terminates_the_connections_of_one_database(
        self, postgres_server: PostgresDatabases, database: str
    ) -> None:
        ours, others = postgres_server.url(database), postgres_server.url("postgres")
        with connect(others) as bystander, connect(ours) as first, connect(ours) as second:
            assert postgres_server.terminate_connections(database) == 2

            for connection in (first, second):
                with pytest.raises(psycopg.errors.AdminShutdown):
                    connection.execute("SELECT 1")
            assert bystander.execute("SELECT 1").fetchone() == (1,)

    def test_drops_a_database_in_use(self, postgres_server: PostgresDatabases, database: str) -> None:
        url = postgres_server.url(database)
        with connect(url):
            postgres_server.drop_database(database)

        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            connect(url)

    def test_clones_a_template(self, postgres_server: PostgresDatabases, database: str) -> None:
        with connect(postgres_server.url(database)) as connection:
            connection.execute("CREATE TABLE words AS SELECT 'cloned' AS word")

        clone = f"{database}_clone"
        try:
            with connect(postgres_server.create_database(clone, template=database)) as connection:
                assert connection.execute("SELECT word FROM words").fetchone() == ("cloned",)
        finally:
            postgres_server.drop_database(clone)


class TestPostgres:
    def test_speaks_utf8_on_the_loopback_address_only(self, own_postgres: Postgres) -> None:
        with connect(own_postgres.create_database("answers")) as connection:
            row = connection.execute(
                "SELECT current_setting('server_encoding'), upper('straße é'), version()"
            ).fetchone()
        sockets = psutil.Process(own_postgres.pid).net_connections("all")

        assert row is not None
        assert row[:2] == ("UTF8", "STRAßE É")
        assert row[2].startswith("PostgreSQL 18")
        assert [s.laddr for s in sockets if s.status == psutil.CONN_LISTEN] == [("127.0.0.1", own_postgres.port)]

    def test_never_runs_as_root_and_adds_no_account(self) -> None:
        accounts = Path("/etc/passwd").read_bytes()

        with Postgres() as server:
            process = psutil.Process(server.pid)
            assert process.uids().effective != 0
            if os.geteuid() == 0:
                assert not Path(process.exe()).is_relative_to(sys.prefix), "nobody may be unable to go there"

        assert Path("/etc/passwd").read_bytes() == accounts

    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_keeps_what_was_committed(self, own_postgres: Postgres, mode: StopMode) -> None:
        url = own_postgres.create_database("kept")
        with closing(connect(url)) as connection:
            connection.execute("CREATE TABLE words AS SELECT 'committed' AS word")
            connection.execute("BEGIN; INSERT INTO words VALUES ('open')")
            own_postgres.stop(mode)
            with pytest.raises(psycopg.OperationalError):
                connect(url)

        own_postgres.start()

        with connect(url) as connection:
            assert connection.execute("SELECT word FROM words").fetchall() == [("committed",)]

    def test_restart_keeps_port_and_data(self, own_postgres: Postgres) -> None:
        url = own_postgres.create_database("kept")
        before = own_postgres.pid

        own_postgres.restart("immediate")

        assert own_postgres.pid != before
        with connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)

    def test_outlives_the_thread_that_started_it(self) -> None:
        server = Postgres()
        starter = threading.Thread(target=server.start)
        starter.start()
        starter.join()

        with closing(server), connect(server.url("postgres")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)

    def test_close_leaves_nothing(self) -> None:
        server = Postgres()
        server.start()
        folder, postmaster = server.folder, psutil.Process(server.pid)
        tree, memory = [postmaster, *postmaster.children()], shared_memory(postmaster)

        server.close()
        server.close()

        assert all(map(has_ended, tree))
        assert not folder.exists()
        assert not any(path.exists() for path in memory)

    def test_says_why_it_does_not_start(self, own_postgres: Postgres) -> None:
        own_postgres.stop()
        (own_postgres.folder / "data" / "postgresql.auto.conf").write_text("no_such_setting = 1\n")

        with pytest.raises(RuntimeError, match="no_such_setting"):
            own_postgres.start()


class TestValkey:
    def test_restart_keeps_the_port_and_nothing_else(self, own_valkey: Valkey) -> None:
        url = own_valkey.url
        with redis_client(url) as client:
            client.set("word", "kept?")
            before = own_valkey.pid

            own_valkey.restart()

            assert own_valkey.url == url
            assert own_valkey.pid != before
            assert client.get("word") is None

    def test_stopped_and_killed_it_refuses_connections(self, own_valkey: Valkey) -> None:
        with redis_client(own_valkey.url, retry=None) as client:
            for end in (own_valkey.stop, own_valkey.kill):
                end()
                with pytest.raises(redis.ConnectionError):
                    client.ping()
                own_valkey.start()
                assert client.ping()

    def test_paused_it_does_not_answer_until_it_is_resumed(self, own_valkey: Valkey) -> None:
        with redis_client(own_valkey.url, socket_timeout=0.2, retry=None) as hasty:
            own_valkey.pause()
            with pytest.raises(redis.TimeoutError):
                hasty.set("word", "late")

            own_valkey.resume()

        with redis_client(own_valkey.url) as patient:
            assert patient.ping()

    def test_paused_it_can_be_stopped(self, own_valkey: Valkey) -> None:
        own_valkey.pause()

        own_valkey.restart()

        with redis_client(own_valkey.url) as client:
            assert client.ping()

    def test_is_flushed_and_configured(self, own_valkey: Valkey) -> None:
        second = own_valkey.url.removesuffix("/0") + "/1"
        with redis_client(own_valkey.url) as client, redis_client(second) as other:
            client.set("word", "here")
            other.set("word", "there")

            own_valkey.flush()
            assert client.dbsize() == other.dbsize() == 0

            own_valkey.config_set("maxmemory", 1)
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                client.set("word", "too much")

    def test_close_leaves_nothing(self) -> None:
        server = Valkey()
        server.start()
        folder, process = server.folder, psutil.Process(server.pid)
        server.pause()

        server.close()
        server.close()

        assert has_ended(process)
        assert not folder.exists()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_process_that_started_it(end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as owner:
        assert owner.stdout
        folders = [Path(owner.stdout.readline().rstrip("\n")) for _ in range(2)]
        assert all(folder.is_dir() for folder in folders)
        tree = psutil.Process(owner.pid).children(recursive=True)
        assert {process.name() for process in tree} >= {"postgres", "valkey-server"}
        memory = [path for process in tree if process.name() == "postgres" for path in shared_memory(process)]

        owner.send_signal(end)

        wait_until(lambda: all(map(has_ended, tree)), "what was started to end")
        assert not any(folder.exists() for folder in folders)
        assert not any(path.exists() for path in memory)


@pytest.fixture(scope="class")
def users_settings() -> Iterator[None]:
    """What a user's shell may export; the class's scope puts it before what each test gets."""
    with pytest.MonkeyPatch.context() as shell:
        shell.setenv("BATCHMILL_HOME", "/home/user/.batchmill")
        shell.setenv("BATCHMILL_LEASE_SECONDS", "1")
        shell.setenv("batchmill_debug", "true")  # pydantic-settings reads either case
        yield


class TestFixtures:
    @pytest.mark.parametrize("_run", [1, 2])
    def test_each_test_has_a_fresh_database(self, database_url: str, _run: int) -> None:
        from models.db import Database

        database = Database(database_url)
        try:
            with database.write() as connection:
                connection.exec_driver_sql("CREATE TABLE left_by_a_test (word TEXT)")
        finally:
            database.close()

    def test_the_database_has_our_tables(self, database_url: str) -> None:
        from models import schema
        from models.db import Database

        database = Database(database_url)
        try:
            schema.check_version(database)
        finally:
            database.close()

    @pytest.mark.parametrize("_run", [1, 2])
    def test_each_test_has_an_empty_redis(self, redis_url: str, _run: int) -> None:
        with redis_client(redis_url) as client:
            assert client.dbsize() == 0
            client.set("left", "by a test")

    def test_the_users_settings_are_hidden(self, users_settings: None, batchmill_home: Path, tmp_path: Path) -> None:
        ours = {name for name in os.environ if name.upper().startswith("BATCHMILL_")}

        assert ours - {"BATCHMILL_TEST_REDIS_URL", "BATCHMILL_TEST_DATABASE_URL"} == {"BATCHMILL_HOME"}
        assert os.environ["BATCHMILL_HOME"] == str(batchmill_home)
        assert batchmill_home.is_relative_to(tmp_path)
