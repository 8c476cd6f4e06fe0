import math
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from models import vectors
from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.dialects.columns import UtcDateTime
from models.documents import from_json, to_json
from models.errors import DatabaseRefused, SettingsError, Unreachable
from models.tables.batches import Batch
from models.tables.results import Result

JOBS = ("batch_id", "position", "custom_id", "input")
RESULTS = ("batch_id", "position", "seq", "status", "output", "error_message", "truncated", "attempts", "vector")
RESULT_TYPES = ("text", "int8", "int8", "text", "jsonb", "text", "bool", "int4", "float4[]")
TEXTS = [
    "plain",
    "tab\t newline\n return\r",
    'quote " backslash \\ \\N \\.',
    "",
    "ä猫👍\u2028",
    "{braces}",
    "x" * 70_000,
]


def insert_batch(database: Database, batch_id: str = "b", **columns: Any) -> None:
    values = {"pipeline": "p", "task": "t", "model": "m", "status": "validating", "parameters": {}, "metadata_": {}}
    with database.write() as connection:
        connection.execute(insert(Batch).values(id=batch_id, **values | columns))


class TestInsertRows:
    def test_values_come_back_as_they_went_in(self, database: Database) -> None:
        insert_batch(database)
        rows = [("b", position, word or None, to_json({"text": word})) for position, word in enumerate(TEXTS)]
        rows = [(*row[:2], row[2] and f"{row[2][:2000]}{row[1]}", row[3]) for row in rows]

        with database.write() as connection:
            insert_rows(connection, "jobs", JOBS, iter(rows))

        with database.read() as connection:
            stored = connection.execute(text("SELECT custom_id, input FROM jobs ORDER BY position")).all()
        assert [row[0] for row in stored] == [row[2] for row in rows]
        documents = [row[1] if isinstance(row[1], str) else to_json(row[1]) for row in stored]
        assert documents == [row[3] for row in rows]

    def test_typed_columns_take_vectors_and_the_same_values(self, database: Database) -> None:
        insert_batch(database)
        vector = vectors.from_numbers([0.1, -2.5, 3e38])
        rows = [
            (
                "b",
                position,
                position + 1,
                "succeeded",
                to_json({"text": word}),
                word,
                bool(position % 2),
                2**31 - 1,
                None,
            )
            for position, word in enumerate(TEXTS)
        ]
        rows.append(("b", len(rows), len(rows) + 1, "succeeded", None, None, False, 0, vector))

        with database.write() as connection:
            insert_rows(connection, "results", RESULTS, iter(rows), RESULT_TYPES)

        columns = [Result.__table__.c[name] for name in RESULTS]
        with database.read() as connection:
            stored = connection.execute(select(*columns).order_by("position")).all()
        documents = [(*row[:4], row[4] and to_json(row[4]), *row[5:]) for row in stored]
        assert documents == rows

    def test_a_violation_is_sqlalchemys_own_error_and_quotes_no_values(self, database: Database) -> None:
        insert_batch(database)
        rows = [("b", 0, "canary", '{"text":"canary"}')] * 2

        with pytest.raises(IntegrityError) as caught, database.write() as connection:
            insert_rows(connection, "jobs", JOBS, rows)

        assert '{"text"' not in str(caught.value)
        with database.read() as connection:
            assert connection.scalar(text("SELECT count(*) FROM jobs")) == 0

    def test_an_interrupted_one_leaves_the_database_free(self, database: Database) -> None:
        insert_batch(database)

        def rows() -> Iterator[tuple[object, ...]]:
            yield ("b", 0, None, "{}")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as caught, database.write() as connection:
            insert_rows(connection, "jobs", JOBS, rows())

        # The traceback holds every frame: nothing may depend on their being gone.
        with database.write() as connection:
            assert connection.scalar(text("SELECT count(*) FROM jobs")) == 0
        assert caught.tb

    def test_nothing_is_fine(self, database: Database) -> None:
        with database.write() as connection:
            insert_rows(connection, "jobs", JOBS, [])


class TestTransactions:
    def test_an_error_rolls_back(self, database: Database) -> None:
        with pytest.raises(IntegrityError), database.write() as connection:
            connection.execute(text("INSERT INTO alembic_version VALUES ('x'), ('x')"))

        with database.read() as connection:
            assert connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1

    def test_a_reader_waits_for_no_writer(self, database: Database) -> None:
        with database.write() as writing:
            writing.execute(text("UPDATE alembic_version SET version_num = 'new'"))
            with database.read() as reading:
                assert reading.scalar(text("SELECT version_num FROM alembic_version")) != "new"

    def test_one_whose_holder_froze_is_ended_by_postgresql(self, postgresql_url: str) -> None:
        frozen, other = Database(postgresql_url, idle_seconds=1.0), Database(postgresql_url)
        insert_batch(other)
        rename = text("UPDATE batches SET name = :name")

        def sleep_over() -> None:
            with frozen.write() as holder:
                holder.execute(rename, {"name": "frozen"})
                with other.write() as connection:  # waits for the holder's lock, and would for ever
                    connection.execute(rename, {"name": "other"})
                holder.execute(rename, {"name": "woken"})

        with pytest.raises(Unreachable):
            sleep_over()

        with other.read() as connection:
            assert connection.scalar(text("SELECT name FROM batches")) == "other"
        frozen.close()
        other.close()

    def test_deleting_a_batch_deletes_what_is_its(self, database: Database) -> None:
        insert_batch(database)
        with database.write() as connection:
            insert_rows(connection, "jobs", JOBS, [("b", 0, None, "{}")])
            insert_rows(connection, "slices", ("batch_id", "start_position", "size", "state"), [("b", 0, 1, "queued")])

        with database.write() as connection:
            connection.execute(text("DELETE FROM batches"))

        with database.read() as connection:
            assert connection.scalar(text("SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM slices)")) == 0


class TestClock:
    def test_now_and_later_are_moments_in_utc(self, database: Database) -> None:
        with database.read() as connection:
            query = text(f"SELECT {database.sql.now} AS now, {database.sql.now_plus_seconds} AS later")
            now, later = connection.execute(query.columns(now=UtcDateTime, later=UtcDateTime), {"seconds": -90.5}).one()

        assert now.tzinfo is UTC
        assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)
        assert timedelta(seconds=90.4) < now - later < timedelta(seconds=90.6)

    def test_moments_keep_their_instant(self, database: Database) -> None:
        moment = datetime(2026, 3, 29, 2, 30, 0, 123_000, tzinfo=timezone(timedelta(hours=5, minutes=30)))
        insert_batch(database, expires_at=moment)

        with database.read() as connection:
            row = connection.execute(select(Batch.expires_at, Batch.created_at)).one()

        assert row.expires_at == moment
        assert row.expires_at.tzinfo is UTC
        assert abs(row.created_at - datetime.now(UTC)) < timedelta(minutes=1)

    def test_created_at_sorts_as_text_with_what_python_writes(self, database: Database) -> None:
        """SQLite compares texts: both writers must write moments alike."""
        insert_batch(database, "by the database")
        insert_batch(database, "earlier", created_at=datetime.now(UTC) - timedelta(days=1))
        insert_batch(database, "later", created_at=datetime.now(UTC) + timedelta(days=1))

        with database.read() as connection:
            rows = connection.scalars(select(Batch.id).order_by(Batch.created_at)).all()

        assert rows == ["earlier", "by the database", "later"]


class TestDocuments:
    @pytest.mark.parametrize("document", [{"text": "naïve 😀"}, {}, [], None, 0.1, "a", {"a": {"b": [1, True, None]}}])
    def test_come_back_as_they_were(self, document: Any) -> None:
        assert from_json(to_json(document)) == document
        assert from_json(to_json(document).encode()) == document

    def test_that_are_none_are_refused(self) -> None:
        with pytest.raises(ValueError, match="Expecting"):
            from_json(b"{")

    def test_text_stays_readable(self) -> None:
        assert to_json({"text": "ä猫", "n": [1, None]}) == '{"text":"ä猫","n":[1,null]}'

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_is_no_json_is_refused(self, value: float) -> None:
        with pytest.raises(ValueError, match="Out of range"):
            to_json({"score": value})


class TestUnreachable:
    def test_a_refused_connection_is_a_sentence_without_a_password(self) -> None:
        database = Database("postgresql+psycopg://me:canary@127.0.0.1:1/x", connect_timeout_seconds=2)

        with pytest.raises(Unreachable, match="does not answer") as caught, database.read():
            pass

        assert "canary" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_lost_connection_is_the_same_in_the_middle_of_a_copy(self, postgresql_url: str) -> None:
        database, other = Database(postgresql_url), Database(postgresql_url)
        insert_batch(database)
        end_others = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()"
        )

        def rows() -> Iterator[tuple[object, ...]]:
            yield ("b", 0, None, "{}")
            with other.write() as connection:
                connection.execute(end_others)
            for position in range(1, 300_000):
                yield ("b", position, None, "{}")

        with pytest.raises(Unreachable), database.write() as connection:
            insert_rows(connection, "jobs", JOBS, rows())

        with database.read() as connection:  # a new connection is made by itself
            assert connection.scalar(text("SELECT count(*) FROM jobs")) == 0
        database.close()
        other.close()

    def test_a_full_disk_is_told_as_such_and_half_a_write_is_undone(self, sqlite_url: str) -> None:
        database = Database(sqlite_url)
        insert_batch(database)
        with database.read() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")  # as many as there are, and no more

        with pytest.raises(Unreachable, match=r"is full; make room on its disk$"), database.write() as connection:
            insert_rows(connection, "jobs", JOBS, (("b", position, None, "{}") for position in range(100_000)))

        with database.read() as connection:
            assert connection.scalar(text("SELECT count(*) FROM jobs")) == 0
        database.close()

    def test_a_server_that_falls_silent_is_not_waited_for_by_linux_s_two_hours(self, postgresql_url: str) -> None:
        database = Database(postgresql_url)
        with database.read() as connection:
            descriptor: int = connection.connection.driver_connection.fileno()  # type: ignore[union-attr]
            with socket.socket(fileno=os.dup(descriptor)) as wire:
                silence = [
                    wire.getsockopt(socket.IPPROTO_TCP, option)
                    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                ]
                alive = wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

        assert (alive, silence) == (1, [10, 5, 3])
        database.close()

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        path = tmp_path / "not.db"
        path.write_bytes(b"this is not a database" * 100)

        with (
            pytest.raises(DatabaseRefused, match="file is not a database; name another file"),
            Database(f"sqlite:///{path}").read(),
        ):
            pass


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("mysql://host/name", "must begin with postgresql://"),
            ("nonsense", "can be taken apart"),
            ("sqlite://", "in-memory"),
            ("sqlite:///:memory:", "in-memory"),
            ("sqlite:////proc/nowhere/a.db", "/proc/nowhere can't be written to: No such file or directory"),
        ],
    )
    def test_one_that_cannot_be_used_is_refused(self, url: str, words: str) -> None:
        with pytest.raises(SettingsError, match=words):
            Database(url)
