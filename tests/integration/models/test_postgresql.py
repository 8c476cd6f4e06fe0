"""Databases as operators have them: other schemas, other encodings, standbys, and roles with settings of their own."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import make_url, text

import batchmill
from models import schema
from models.db import Database
from models.errors import DatabaseRefused
from models.postgresql import access
from models.postgresql.grants import Purpose
from models.settings import Settings
from tests import database_roles, fake_worker
from tests.database_roles import DatabaseRoles
from tests.factories.batch_rows import MODEL_VERSION, claimant_for, execute, insert_batch
from tests.servers import Postgres, PostgresDatabases
from worker.leasing import commit, leases
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.loading import versions

SAMPLE = "sample-sentiment-analysis"


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, ["--database-url", url, *arguments])


@pytest.fixture
def empty(postgres_server: PostgresDatabases) -> Iterator[str]:
    """The URL of a database without tables."""
    name = f"batchmill_test_{os.urandom(6).hex()}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture
def given(postgresql_url: str) -> Iterator[DatabaseRoles]:
    with database_roles.temporary_roles(postgresql_url) as found:
        yield found


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_a_database_that_can_t_hold_every_text(postgres_server: PostgresDatabases, encoding: str) -> None:
    name = f"batchmill_test_{os.urandom(6).hex()}"
    create = f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
    database_roles.execute(postgres_server.url("postgres"), create)
    try:
        for command in (("db", "upgrade"), ("ls",), ("worker", SAMPLE, "--devices", "cpu")):
            result = run(postgres_server.url(name), *command)
            assert result.exit_code == 1
            assert (
                f"encoded in {encoding}, which can't hold every text; make one with: CREATE DATABASE" in result.stderr
            )
    finally:
        postgres_server.drop_database(name)


class TestSchemas:
    @pytest.mark.parametrize("name", ["mill", "Größe x"])
    def test_another_than_public_takes_everything(self, empty: str, tmp_path: Path, name: str) -> None:
        database_roles.execute(
            empty, f'CREATE SCHEMA "{name}"', f'ALTER DATABASE {empty.rpartition("/")[2]} SET search_path = "{name}"'
        )
        (tmp_path / "in.jsonl").write_text('"good"\n')

        assert run(empty, "db", "upgrade").exit_code == 0
        batch_id = run(empty, "submit", str(tmp_path / "in.jsonl"), "-p", SAMPLE).stdout.strip()
        for command in (
            ("show", batch_id),
            ("cancel", batch_id),
            ("results", batch_id, "--to-sql", "labels"),
            ("audit",),
            ("delete", batch_id),
        ):
            assert run(empty, *command).exit_code == 0
        granted = run(empty, "db", "grants", "--reader", "somebody").stdout
        quoted = name if name == "mill" else f'"{name}"'
        assert f"ON SCHEMA {quoted} TO somebody" in granted
        assert f"{quoted}.batches" in granted

    def test_a_role_that_does_not_look_there(self, empty: str) -> None:
        database_roles.execute(empty, "CREATE SCHEMA mill")
        in_mill = f"{empty}?options=-c%20search_path%3Dmill"
        assert run(in_mill, "db", "upgrade").exit_code == 0
        assert run(in_mill, "ls").exit_code == 0

        result = run(empty, "ls")

        assert result.exit_code == 1
        role = make_url(empty).username
        assert f"ALTER ROLE {role} SET search_path = mill" in result.stderr

    def test_none(self, empty: str) -> None:
        result = run(f"{empty}?options=-c%20search_path%3Dnone", "db", "upgrade")

        assert (result.exit_code, "search_path" in result.stderr) == (1, True)


class TestReadOnly:
    def test_a_standby_is_read_and_named_where_it_is_to_be_written(
        self, own_postgres: Postgres, tmp_path: Path, redis_url: str
    ) -> None:
        url = own_postgres.create_database("mill")
        schema.upgrade(url)
        database = Database(url)
        batch_id = insert_batch(database, 2)
        database.close()
        own_postgres.stop()
        (own_postgres.folder / "data" / "standby.signal").touch()
        own_postgres.start()
        (tmp_path / "in.jsonl").write_text('"good"\n')

        for command in (("ls",), ("show", batch_id), ("results", batch_id), ("audit",)):
            assert run(url, *command).exit_code == 0
        for command in (
            ("submit", str(tmp_path / "in.jsonl"), "-p", SAMPLE),
            ("cancel", batch_id),
            ("maintain",),
            ("db", "upgrade"),
            ("worker", SAMPLE, "--devices", "cpu"),
        ):
            result = run(url, *command)
            if command[0] == "db":  # nothing to do
                assert result.exit_code == 0
                continue
            assert result.exit_code == 1
            assert "is a standby, which can only be read; name its primary server" in result.stderr
        assert "the database is a standby" in run(url, "--redis-url", redis_url, "doctor").stdout

    def test_a_role_that_only_reads(self, given: DatabaseRoles, tmp_path: Path) -> None:
        role = given.names[Purpose.WORKER]
        given.grant(Purpose.WORKER)
        given.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
        (tmp_path / "in.jsonl").write_text('"good"\n')

        assert run(given.url_for(Purpose.WORKER), "ls").exit_code == 0
        for command in (("submit", str(tmp_path / "in.jsonl"), "-p", SAMPLE), ("maintain",)):
            result = run(given.url_for(Purpose.WORKER), *command)
            assert result.exit_code == 1
            assert f"ALTER ROLE {role} SET default_transaction_read_only = off" in result.stderr


class TestTimeoutsOfARole:
    def test_its_idle_timeout_is_ours_instead(self, given: DatabaseRoles) -> None:
        role = given.names[Purpose.WORKER]
        given.grant(Purpose.WORKER)
        given.execute(f"ALTER ROLE {role} SET idle_in_transaction_session_timeout = '1ms'")
        database = access.open_with_privileges(Settings(database_url=given.url_for(Purpose.WORKER)), Purpose.WORKER)
        batch_id = insert_batch(database, 2)

        execute(database, "UPDATE batches SET name = 'x' WHERE id = :id", id=batch_id)
        database.close()

    def test_its_statement_timeout_is_a_sentence(self, given: DatabaseRoles) -> None:
        given.grant(Purpose.WORKER)
        given.execute(f"ALTER ROLE {given.names[Purpose.WORKER]} SET statement_timeout = '50ms'")
        database = Database(given.url_for(Purpose.WORKER))

        with pytest.raises(DatabaseRefused, match="raise the role's statement_timeout"):
            execute(database, "SELECT pg_sleep(2)")
        database.close()


class TestManyParameters:
    """PostgreSQL takes 65,535 in one statement, and SQLite 32,766."""

    COUNT = 70_000

    @pytest.fixture
    def database(self, database_url: str) -> Iterator[Database]:
        database = Database(database_url)
        yield database
        database.close()

    def leases(self, database: Database) -> list[leases.Lease]:
        insert_batch(database, 4, slice_size=2)
        ours = claims.claim(database, claimant_for(), 4, 2)
        others = [leases.Lease(10**9 + number, "batch_x", 0, 1, 1, 1) for number in range(self.COUNT)]
        return [*ours, *others]

    def test_strays_among_many_leases(self, database: Database) -> None:
        held = self.leases(database)
        with database.write() as connection:
            assert claims.release_unknown_claims(connection, claimant_for().worker_id, held[1:]) == 1
            assert claims.release_unknown_claims(connection, claimant_for().worker_id, ()) == 1

    def test_results_checked_after_a_commit_in_doubt(self, database: Database) -> None:
        batch_id = insert_batch(database, self.COUNT, slice_size=self.COUNT)
        version = versions.register_version(database, MODEL_VERSION)
        [lease] = claims.claim(database, claimant_for(), self.COUNT, self.COUNT)
        found = [JobResult(lease, place, commit.JobOutcome.SUCCEEDED, output="1") for place in range(self.COUNT)]
        with database.write() as connection:
            done = commit.commit_results(
                connection, BatchCommit([lease], found, {lease.slice_id}, version), is_retry=True
            )
        assert (done.results_written, batch_id) == (self.COUNT, lease.batch_id)


class TestNamesOfColumns:
    @pytest.fixture
    def database(self, database_url: str) -> Iterator[Database]:
        database = Database(database_url)
        yield database
        database.close()

    @pytest.mark.parametrize("name", ["é" * 40, "x" * 64, "漢" * 22])
    def test_longer_than_postgresql_has_them(self, database: Database, name: str) -> None:
        batch_id = self.kept(database, name)

        result = run(database.url, "results", batch_id, "--to-sql", "labels")

        if database.engine.dialect.name == "sqlite":
            assert result.exit_code == 0, result.stderr
            return
        assert result.exit_code == 2
        assert f"has {len(name.encode())} bytes in its name, and PostgreSQL takes 63" in result.stderr

    @pytest.mark.parametrize("name", ["é" * 31, "x" * 63, "漢" * 21])
    def test_as_long_as_it_has_them(self, database: Database, name: str) -> None:
        batch_id = self.kept(database, name)

        for _ in range(2):
            assert run(database.url, "results", batch_id, "--to-sql", "labels").exit_code == 0

    def test_none_in_what_was_kept(self, database: Database) -> None:
        result = run(database.url, "results", self.kept(database, ""), "--to-sql", "labels")

        assert (result.exit_code, "has no name" in result.stderr) == (2, True)

    def test_none_to_keep(self, sqlite_url: str, tmp_path: Path) -> None:
        (tmp_path / "in.jsonl").write_text('{"text": "good"}\n')

        result = run(sqlite_url, "submit", str(tmp_path / "in.jsonl"), "-p", SAMPLE, "--passthrough", "")

        assert (result.exit_code, "a column to keep has no name" in result.stderr) == (2, True)

    def kept(self, database: Database, name: str) -> str:
        batch_id = insert_batch(database, 1)
        kept = f'{{"{name}": "EU"}}'
        execute(database, f"UPDATE jobs SET passthrough = CAST(:kept AS {self.json(database)})", kept=kept)
        fake_worker.write_results(database, batch_id, [(0, {"label": "A", "score": 0.5})])
        return batch_id

    def json(self, database: Database) -> str:
        return "TEXT" if database.engine.dialect.name == "sqlite" else "JSONB"


class TestUpdatesOfABatch:
    """A commit changes its batch's counters; an index of one would be written at each commit, as would all others."""

    COUNT_FAILURES = "UPDATE batches SET last_seq = last_seq + 2, succeeded = succeeded + 1, failed = failed + 1"
    INDEXED_UPDATES = "SELECT n_tup_upd - n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'batches'"

    def test_write_no_index_after_the_first_failure(self, postgresql_url: str) -> None:
        with closing(Database(postgresql_url)) as database:
            insert_batch(database, 9)
            with database.write() as connection:
                for _ in range(4):
                    connection.execute(text(self.COUNT_FAILURES))
                with_indexes = connection.execute(text(self.INDEXED_UPDATES)).scalar_one()

        assert with_indexes == 1
