"""A database that serves a second test is like a new one."""

from contextlib import closing

import psycopg
import pytest

from models.db import Database
from tests.factories.batch_rows import MODEL_VERSION, insert_batch
from tests.reusable_databases import ReusableDatabases
from tests.servers import PostgresDatabases
from worker.loading import versions

ADDITIONS = [
    "CREATE TABLE labels (id TEXT REFERENCES batches)",
    'CREATE TABLE "La bels" (id SERIAL); CREATE VIEW seen AS SELECT id FROM "La bels"',
    "CREATE TABLE parts (id INT) PARTITION BY LIST (id); CREATE TABLE part PARTITION OF parts FOR VALUES IN (1)",
    "CREATE SCHEMA other; CREATE TABLE other.batches (id TEXT)",
]
CHANGES = [
    "ALTER TABLE workers RENAME TO laborers",
    "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TABLE labels (id TEXT); DROP TABLE labels; ALTER TABLE workers ADD COLUMN mood TEXT",
    "ALTER TABLE jobs DROP COLUMN input CASCADE",
    "CREATE INDEX ON results (status)",
    "DROP VIEW job_results",
    "CREATE VIEW others AS SELECT 1",
    "DROP TRIGGER slices_set_claim_order ON slices",
    "ALTER FUNCTION batchmill_set_claim_order() COST 7",
    "GRANT SELECT ON batches TO PUBLIC",
    "ALTER DATABASE {name} SET statement_timeout = 1",
    "REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
    "ANALYZE alembic_version",
    "UPDATE alembic_version SET version_num = version_num",
]
SELECT_RELATIONS = """
SELECT nspname, relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname NOT LIKE 'pg%' AND nspname <> 'information_schema' ORDER BY 1, 2
"""


def connect(server: PostgresDatabases, name: str) -> psycopg.Connection:
    return psycopg.connect(server.url(name).replace("+psycopg", ""), autocommit=True)


def test_its_tables_are_empty_and_ids_begin_at_one(
    postgres_server: PostgresDatabases, reusable_databases: ReusableDatabases
) -> None:
    name, state = reusable_databases.acquire()
    reuses = 0
    for _ in range(5):  # the server's own autovacuum may change the catalogs at any time, so some are dropped
        with closing(Database(postgres_server.url(name))) as database:
            insert_batch(database, 10)
            assert versions.register_version(database, MODEL_VERSION) == 1

        reusable_databases.release(name, state)

        previous = name
        name, state = reusable_databases.acquire()
        reuses += name == previous
        with connect(postgres_server, name) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            counts = {
                table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[arg-type]
                for [table] in tables
            }
        assert {table for table, count in counts.items() if count != (0,)} == {"alembic_version"}
    reusable_databases.release(name, state)
    assert reuses >= 2


@pytest.mark.parametrize("addition", ADDITIONS)
def test_what_was_added_is_dropped(
    postgres_server: PostgresDatabases, reusable_databases: ReusableDatabases, addition: str
) -> None:
    name, state = reusable_databases.acquire()
    reuses = 0
    for _ in range(5):  # as above
        with connect(postgres_server, name) as connection:
            before = connection.execute(SELECT_RELATIONS).fetchall()
            connection.execute(addition.encode())

        reusable_databases.release(name, state)

        previous = name
        name, state = reusable_databases.acquire()
        reuses += name == previous
        with connect(postgres_server, name) as connection:
            assert connection.execute(SELECT_RELATIONS).fetchall() == before
    reusable_databases.release(name, state)
    assert reuses >= 2


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_one_is_dropped(
    postgres_server: PostgresDatabases, reusable_databases: ReusableDatabases, change: str
) -> None:
    name, state = reusable_databases.acquire()
    with connect(postgres_server, name) as connection:
        for command in change.format(name=name).split("; "):
            connection.execute(command.encode())

    reusable_databases.release(name, state)

    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        connect(postgres_server, name)


def test_a_large_one_is_dropped(
    postgres_server: PostgresDatabases, reusable_databases: ReusableDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.reusable_databases.MAX_TABLE_BYTES", 100_000)
    name, state = reusable_databases.acquire()
    with closing(Database(postgres_server.url(name))) as database:
        insert_batch(database, 2_000, slice_size=1000)

    reusable_databases.release(name, state)

    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        connect(postgres_server, name)


def test_sessions_that_a_test_left_open_are_ended(
    postgres_server: PostgresDatabases, reusable_databases: ReusableDatabases
) -> None:
    name, state = reusable_databases.acquire()
    reuses = 0
    for _ in range(5):  # as above
        with closing(connect(postgres_server, name)) as idle, closing(connect(postgres_server, name)) as writer:
            writer.execute("BEGIN; LOCK TABLE batches")

            reusable_databases.release(name, state)

            for session in (idle, writer):
                with pytest.raises(psycopg.OperationalError):
                    session.execute("SELECT 1")
        previous = name
        name, state = reusable_databases.acquire()
        reuses += name == previous
    reusable_databases.release(name, state)
    assert reuses >= 2


def test_one_that_is_gone_is_replaced(
    postgres_server: PostgresDatabases, reusable_databases: ReusableDatabases
) -> None:
    name, state = reusable_databases.acquire()
    postgres_server.drop_database(name)

    reusable_databases.release(name, state)

    other, state = reusable_databases.acquire()
    assert other != name
    reusable_databases.release(other, state)
