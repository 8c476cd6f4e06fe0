"""The tables on both databases: made by the migrations, equal to the models, upgraded by any number at once."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

import batchmill
from models import schema
from models.db import Database
from models.errors import SchemaMismatch
from models.postgresql.grants import VIEWS
from models.tables.metadata import METADATA
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch
from tests.servers import WAIT_TIMEOUT_SECONDS, PostgresDatabases
from tests.threads import run_concurrently

ROOT = Path(__file__).parents[3]
FREE_OF_KEYS = ("jobs", "results", "superseded_results")

# Says that it is ready, waits for a line, upgrades.
UPGRADER = """
import sys
from models.schema import upgrade
print("ready", flush=True)
sys.stdin.readline()
upgrade(sys.argv[1])
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table; the test runs once on each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgresDatabases = request.getfixturevalue("postgres_server")
    name = f"batchmill_empty_{tmp_path.name}".lower()
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url)
    yield database
    database.close()


@pytest.fixture
def upgraded(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


INSERT_BATCH = """
INSERT INTO batches (id, pipeline, task, model, parameters, metadata, status)
VALUES ('b', 'p', 't', 'm', '{}', '{}', 'completed')
"""
INSERT_OLD_JOB = (
    "INSERT INTO jobs (batch_id, position, custom_id, input) VALUES ('b', :position, :custom_id, :document)"
)
INSERT_JOB = """
INSERT INTO jobs (batch_id, position, custom_id, input, invalid) VALUES ('b', :position, 'a', '{}', :invalid)
"""
INSERT_GUARDS = "INSERT INTO batch_guards (batch_id, guard, stage, action) SELECT id, 'g', '', '' FROM batches"
GUARD_COLUMNS = "SELECT windows, guards, original_input FROM job_results ORDER BY position"
INSERT_OLD_FAILURE = """
INSERT INTO results (batch_id, position, seq, status, error_code, truncated, attempts, slice_id, finished_at)
VALUES ('b', :position, :position, 'failed', 'empty_text', false, 0, :slice_id, '2026-01-01 00:00:00')
"""


def alembic(database: Database, connection: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(schema.migrations_folder()))
    config.attributes["connection"] = connection
    return config


def is_described(item: Any, name: object, kind: str, reflected: bool, __: object) -> bool:
    """All but the foreign keys that SQLite keeps, and PostgreSQL does without, and an index on an expression."""
    is_kept_key = kind == "foreign_key_constraint" and reflected and item.table.name in FREE_OF_KEYS
    return name != "jobs_custom_id" and not is_kept_key


def indexes_of_results(connection: Connection) -> list[Any]:
    return sorted(
        (index["name"], index["column_names"], index["unique"], sorted(map(str, index["dialect_options"].values())))
        for index in inspect(connection).get_indexes("results")
    )


def tables(database: Database) -> set[str]:
    with database.read() as connection:
        found = inspect(connection)
        return {*found.get_table_names(), *found.get_view_names()} - {"alembic_version"}


class TestUpgrade:
    expected = frozenset({*METADATA.tables, *VIEWS})

    def test_makes_every_table_from_nothing(self, empty: Database) -> None:
        assert schema.current_version(empty) is None

        assert schema.upgrade(empty.url) is None

        assert schema.current_version(empty) == schema.HEAD
        assert tables(empty) == self.expected

    def test_twice_changes_nothing(self, empty: Database) -> None:
        schema.upgrade(empty.url)
        batch_id = insert_batch(empty, 3)

        schema.upgrade(empty.url)

        with empty.read() as connection:
            assert connection.scalar(text("SELECT id FROM batches")) == batch_id
            assert connection.scalar(text("SELECT count(*) FROM jobs")) == 3

    def test_by_several_threads_at_once(self, empty: Database) -> None:
        run_concurrently(*[lambda: schema.upgrade(empty.url)] * 3)

        assert schema.current_version(empty) == schema.HEAD
        assert tables(empty) == self.expected

    def test_by_two_processes_at_once(self, empty: Database) -> None:
        upgraders = [
            subprocess.Popen(
                [sys.executable, "-c", UPGRADER, empty.url],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for upgrader in upgraders:
            assert upgrader.stdout
            assert upgrader.stdout.readline() == "ready\n"

        for upgrader in upgraders:
            assert upgrader.stdin
            upgrader.stdin.write("go\n")
            upgrader.stdin.flush()
        errors = [upgrader.communicate(timeout=WAIT_TIMEOUT_SECONDS)[1] for upgrader in upgraders]

        assert [upgrader.returncode for upgrader in upgraders] == [0, 0], errors
        assert schema.current_version(empty) == schema.HEAD
        assert tables(empty) == self.expected

    def test_follows_a_downgrade_to_nothing(self, upgraded: Database) -> None:
        insert_batch(upgraded, 3)
        with upgraded.write() as connection:
            command.downgrade(alembic(upgraded, connection), "base")
        assert tables(upgraded) == set()

        schema.upgrade(upgraded.url)

        assert tables(upgraded) == self.expected
        insert_batch(upgraded, 3)

    def test_takes_a_path_with_a_percent_sign(self, tmp_path: Path) -> None:
        folder = tmp_path / "100%"
        folder.mkdir()

        schema.upgrade(f"sqlite:///{folder / 'batchmill.db'}")

        assert (folder / "batchmill.db").is_file()


class TestCommand:
    @pytest.mark.parametrize(
        ("before", "words"),
        [
            (None, "were created in version {head}"),
            ("0001", "were upgraded from version 0001 to {head}"),
            (schema.HEAD, "had version {head} already; nothing was changed"),
        ],
    )
    def test_says_what_it_did(self, empty: Database, before: str | None, words: str) -> None:
        if before is not None:
            with empty.write() as connection:
                command.upgrade(alembic(empty, connection), before)

        lines = [
            CliRunner().invoke(batchmill.cli, ["--database-url", empty.url, "db", "upgrade", *options])
            for options in ((), ("--json",))
        ]

        assert lines[0].stderr.endswith(f" {words.format(head=schema.HEAD)}\n")
        assert json.loads(lines[1].stdout) == {
            "object": "schema",
            "version": schema.HEAD,
            "previous_version": schema.HEAD,
            "changed": False,
        }


class TestOpening:
    def test_a_new_database_by_many_at_once(self, empty: Database) -> None:
        """SQLite refuses all but one of those that switch a new file to its write-ahead log."""

        def look() -> None:
            database = Database(empty.url)
            try:
                assert schema.current_version(database) is None
            finally:
                database.close()

        run_concurrently(*[look] * 8)


class TestCheck:
    def test_is_content_with_our_version(self, upgraded: Database) -> None:
        schema.check_version(upgraded)

    def test_tells_that_there_are_no_tables(self, empty: Database) -> None:
        with pytest.raises(SchemaMismatch) as caught:
            schema.check_version(empty)

        assert str(caught.value) == "the database has no Batchmill tables yet; run: batchmill db upgrade"
        assert not caught.value.retryable

    def test_tells_that_the_tables_are_older(self, upgraded: Database) -> None:
        execute(upgraded, "UPDATE alembic_version SET version_num = '0000'")

        with pytest.raises(SchemaMismatch, match=r"of version 0000, this code needs \d{4}; run: batchmill db upgrade"):
            schema.check_version(upgraded)

    def test_tells_that_the_tables_are_newer(self, upgraded: Database) -> None:
        execute(upgraded, "UPDATE alembic_version SET version_num = '9999'")

        with pytest.raises(SchemaMismatch, match=r"of version 9999, newer than this code's \d{4}; install that"):
            schema.check_version(upgraded)


class TestReady:
    def test_upgrades_the_embedded_database(self, empty_url: str) -> None:
        database = schema.open_database_url(empty_url, is_embedded=True, connect_timeout_seconds=5.0)

        assert schema.current_version(database) == schema.HEAD
        database.close()

    def test_never_touches_a_server_s(self, empty: Database) -> None:
        with pytest.raises(SchemaMismatch):
            schema.open_database_url(empty.url, is_embedded=False, connect_timeout_seconds=5.0)

        assert tables(empty) == set()

    def test_refuses_an_embedded_database_from_the_future(self, upgraded: Database) -> None:
        execute(upgraded, "UPDATE alembic_version SET version_num = '9999'")

        with pytest.raises(SchemaMismatch, match="newer"):
            schema.open_database_url(upgraded.url, is_embedded=True, connect_timeout_seconds=5.0)
        with pytest.raises(SchemaMismatch, match="newer"):
            schema.upgrade(upgraded.url)


class TestMigrations:
    def test_end_at_the_version_that_the_code_names(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(schema.migrations_folder()))

        assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]

    def test_count_upwards_so_that_versions_compare(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(schema.migrations_folder()))
        revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]

        assert revisions == sorted(revisions, reverse=True)

    @pytest.mark.filterwarnings("ignore:Skipped unsupported reflection", "ignore:autogenerate skipping")
    def test_make_what_the_models_say(self, upgraded: Database) -> None:
        with upgraded.read() as connection:
            opts = {"compare_type": True, "include_object": is_described}
            context = MigrationContext.configure(connection, opts=opts)

            assert compare_metadata(context, METADATA) == []

    def test_mark_the_invalid_rows_of_older_batches(self, empty: Database) -> None:
        with empty.engine.begin() as connection:
            command.upgrade(alembic(empty, connection), "0002")
            connection.execute(text(INSERT_BATCH))
            for position, document, custom_id in ((0, '{"text":"a"}', "a"), (1, "{}", "b"), (2, "{}", None)):
                values = {"position": position, "document": document, "custom_id": custom_id}
                connection.execute(text(INSERT_OLD_JOB), values)
            for position, slice_id in ((0, 1), (1, None)):
                connection.execute(text(INSERT_OLD_FAILURE), {"position": position, "slice_id": slice_id})

        schema.upgrade(empty.url)

        with empty.read() as connection:
            assert connection.scalars(text("SELECT position FROM jobs WHERE invalid")).all() == [1]

    def test_keep_results_across_guards_and_back(self, empty: Database) -> None:
        with empty.engine.begin() as connection:
            command.upgrade(alembic(empty, connection), "0006")
            connection.execute(text(INSERT_BATCH))
            for position in range(2):
                values = {"position": position, "document": f'{{"text":"{position}"}}', "custom_id": None}
                connection.execute(text(INSERT_OLD_JOB), values)
                connection.execute(text(INSERT_OLD_FAILURE), {"position": position, "slice_id": 1})
        schema.upgrade(empty.url)
        version = schema.HEAD
        with empty.write() as connection:
            assert connection.execute(text(GUARD_COLUMNS)).all() == [(None, None, None)] * 2
            connection.execute(text(INSERT_GUARDS))
            connection.execute(text("UPDATE jobs SET original_input = input, redacted = true"))

        with empty.engine.begin() as connection:
            command.downgrade(alembic(empty, connection), "0006")
        with empty.read() as connection:
            assert len(connection.execute(text("SELECT * FROM job_results")).all()) == 2

        schema.upgrade(empty.url)
        assert schema.current_version(empty) == version
        with empty.read() as connection:
            assert connection.execute(text(GUARD_COLUMNS)).all() == [(None, None, None)] * 2
            assert connection.scalar(text("SELECT count(*) FROM batch_guards")) == 0

    def test_keep_results_across_vectors_and_back(self, empty: Database) -> None:
        with empty.engine.begin() as connection:
            command.upgrade(alembic(empty, connection), "0007")
            connection.execute(text(INSERT_BATCH))
            for position in range(3):
                values = {"position": position, "document": f'{{"text":"{position}"}}', "custom_id": None}
                connection.execute(text(INSERT_OLD_JOB), values)
                connection.execute(text(INSERT_OLD_FAILURE), {"position": position, "slice_id": 1})
            before = connection.execute(text("SELECT * FROM job_results ORDER BY position")).all()
            definitions = indexes_of_results(connection)

        schema.upgrade(empty.url)

        with empty.read() as connection:
            after = connection.execute(text("SELECT * FROM job_results ORDER BY position")).all()
            assert after == [(*row, *[None] * 5, "default", *[None] * 3) for row in before]
            assert indexes_of_results(connection) == definitions
            assert len(definitions) >= 2
        with pytest.raises(IntegrityError):
            execute(
                empty, INSERT_OLD_FAILURE.replace("VALUES ('b', :position, :position", "VALUES ('b', 0, 7"), slice_id=1
            )
        with empty.engine.begin() as connection:
            command.downgrade(alembic(empty, connection), "0007")
            assert connection.execute(text("SELECT * FROM job_results ORDER BY position")).all() == before
            assert indexes_of_results(connection) == definitions

    def test_a_vector_fills_no_pages_of_its_own_on_sqlite(self, sqlite_url: str) -> None:
        database = Database(sqlite_url)
        batch_id = insert_batch(database, 100)
        fake_worker.write_results(database, batch_id, [(position, bytes(384 * 4)) for position in range(100)])

        with database.read() as connection:
            size = connection.scalar(text("SELECT sum(pgsize) FROM dbstat WHERE name = 'results'"))

        assert size / 100 < 2_100
        database.close()

    def test_let_only_invalid_rows_repeat_an_id(self, upgraded: Database) -> None:
        with upgraded.write() as connection:
            connection.execute(text(INSERT_BATCH))
            for position, invalid in ((0, False), (1, True), (2, True)):
                connection.execute(text(INSERT_JOB), {"position": position, "invalid": invalid})

        with pytest.raises(IntegrityError), upgraded.write() as connection:
            connection.execute(text(INSERT_JOB), {"position": 3, "invalid": False})

    def test_delete_a_batch_with_all_that_is_of_it(self, upgraded: Database) -> None:
        batch_id = insert_batch(upgraded, 5)
        fake_worker.write_results(upgraded, batch_id, [(0, {}), (1, "empty_text")])
        columns = "batch_id, position, seq, status, truncated, attempts, finished_at"
        execute(upgraded, f"INSERT INTO superseded_results ({columns}) SELECT {columns} FROM results")
        execute(upgraded, INSERT_GUARDS)

        execute(upgraded, "DELETE FROM batches WHERE id = :id", id=batch_id)

        with upgraded.read() as connection:
            for table in ("jobs", "slices", "results", "superseded_results", "batch_guards"):
                assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0

    def test_give_no_id_of_a_slice_or_an_attempt_out_twice(self, sqlite_url: str) -> None:
        database = Database(sqlite_url)

        with database.read() as connection:
            query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name IN ('slices', 'attempts')"
            made = connection.scalars(text(query)).all()

        assert len(made) == 2
        assert all("AUTOINCREMENT" in sql for sql in made)
        database.close()

    def test_gather_no_statistics_that_grow_stale(self, postgresql_url: str) -> None:
        """What PostgreSQL believes of the keys is said once, and neither a large batch nor ANALYZE changes it."""
        database = Database(postgresql_url)
        query = text(
            "SELECT tablename, attname, n_distinct, correlation, most_common_vals FROM pg_stats "
            "WHERE schemaname = 'public' AND tablename IN ('jobs', 'results', 'slices') "
            "AND attname IN ('batch_id', 'position', 'seq', 'status', 'state') ORDER BY 1, 2"
        )
        with database.read() as connection:
            said = connection.execute(query).all()
        batch_id = insert_batch(database, 50)
        fake_worker.write_results(database, batch_id, [(place, {}) for place in range(50)])
        execute(database, "ANALYZE")

        with database.read() as connection:
            assert connection.execute(query).all() == said
        assert [tuple(row) for row in said] == [
            ("jobs", "batch_id", 20, 1, None),
            ("results", "batch_id", 20, 1, None),
            ("results", "status", 2, 1, None),
        ]
        database.close()
