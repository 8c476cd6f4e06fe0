"""Transactions that others break off are done again; what the database refuses is told at once, and by its name."""

import secrets
import threading
import time

import pytest
from sqlalchemy import Connection, make_url, text

from models import db
from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.errors import DatabaseRefused, TransactionConflict, Unreachable
from models.lifecycle import slices
from models.states import AttemptOutcome
from producer.batches import views
from producer.submission import discard
from producer.submission.open_submission import OpenSubmission
from tests.factories import batch_rows
from tests.factories.batch_rows import claimant_for, insert_batch
from tests.servers import WAIT_TIMEOUT_SECONDS, PostgresDatabases, wait_until
from tests.threads import run_concurrently
from worker.leasing.claiming import claims

RENAME = text("UPDATE batches SET name = :name WHERE id = :id")


class TestConflicts:
    def test_two_that_lock_crosswise_both_get_through(self, postgresql_url: str) -> None:
        database = Database(postgresql_url)
        ids = [insert_batch(database, 1), insert_batch(database, 1)]
        met = threading.Barrier(2)
        tries: list[str] = []

        def renames(name: str, order: list[str]) -> None:
            def work(connection: Connection) -> None:
                tries.append(name)
                connection.execute(RENAME, {"name": name, "id": order[0]})
                if tries.count(name) == 1:
                    met.wait(WAIT_TIMEOUT_SECONDS)
                connection.execute(RENAME, {"name": name, "id": order[1]})

            database.transact(work)

        run_concurrently(lambda: renames("a", ids), lambda: renames("b", ids[::-1]))

        assert sorted(tries) in (["a", "a", "b"], ["a", "b", "b"]), "one of the two lost once"
        assert len({batch_rows.get_batch(database, batch_id).name for batch_id in ids}) == 1
        database.close()

    def test_one_that_never_gets_through_is_told_after_some_tries(
        self, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(db, "RETRY_BASE_SECONDS", 0.0)
        database, tries = Database(postgresql_url), []

        def work(connection: Connection) -> None:
            tries.append(1)
            connection.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$"))

        with pytest.raises(TransactionConflict, match="others changed the same rows at the same time; run it again"):
            database.transact(work)

        assert len(tries) == db.MAX_TRANSACTION_ATTEMPTS
        database.close()

    def test_breaking_off_a_batch_never_meets_a_release_crosswise(self, postgresql_url: str) -> None:
        """Who releases refers to the batch's row and then takes its slices: who frees the key takes the row first."""
        database = Database(postgresql_url)
        batch_id = insert_batch(database, 4, ingesting=True, holder_id="s", idempotency_key="k")
        [lease] = claims.claim(database, claimant_for(), 4, 4)
        noted, conflicts = threading.Event(), []

        def release() -> None:
            with database.write() as connection:
                slices.record_attempt_outcome(
                    connection, slices.CHECK_FENCE, slices.fence_parameters(lease), AttemptOutcome.RELEASED
                )
                noted.set()
                time.sleep(0.3)  # the other waits for a lock by now
                connection.execute(
                    text(slices.RELEASE_SLICE.format(held=slices.CHECK_FENCE)), slices.fence_parameters(lease)
                )

        def break_off() -> None:
            noted.wait(WAIT_TIMEOUT_SECONDS)
            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(db, "MAX_TRANSACTION_ATTEMPTS", 1)
                    discard.abort_stream(database, OpenSubmission(batch_id, "s", "k"), "gone")
            except TransactionConflict as error:
                conflicts.append(error)

        run_concurrently(release, break_off)

        assert conflicts == []
        row = batch_rows.get_batch(database, batch_id)
        assert (row.status, row.idempotency_key) == ("failed", None)
        batch_rows.assert_consistent(database, batch_id)
        database.close()


class TestPassing:
    def test_a_session_that_the_server_ended_may_be_tried_again(self, postgresql_url: str) -> None:
        database = Database(postgresql_url)
        batch_id = insert_batch(database, 1)
        rows = [(batch_id, 0, 1, "queued")]

        def sessions(process_id: int) -> int:
            with database.read() as connection:
                statement = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
                return int(connection.scalar(statement, {"pid": process_id}))

        def sleep_over() -> None:
            with database.write() as connection:
                process_id = connection.scalar(text("SELECT pg_backend_pid()"))
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
                wait_until(lambda: not sessions(process_id), "the server to end the session")
                insert_rows(connection, "slices", slices.INSERT_COLUMNS, rows)

        with pytest.raises(Unreachable):
            sleep_over()

        with database.write() as connection:
            insert_rows(connection, "slices", slices.INSERT_COLUMNS, rows)
        database.close()


class TestRefusals:
    @pytest.mark.parametrize("statement", ["SELECT nocolumn FROM batches", "SELECT 1 FROM nowhere"])
    def test_what_is_not_there_names_the_cause(self, database: Database, statement: str) -> None:
        with pytest.raises(DatabaseRefused, match=r"(no such|does not exist).*batchmill doctor") as caught:
            database.transact(lambda connection: connection.execute(text(statement)))

        assert (caught.value.retryable, caught.value.exit_code) == (False, 1)

    def test_a_role_without_rights_names_the_table(
        self, postgresql_url: str, postgres_server: PostgresDatabases
    ) -> None:
        owner, role = Database(postgresql_url), f"reader_{secrets.token_hex(4)}"
        with owner.write() as connection:
            connection.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'"))
            connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"))
        url = make_url(postgresql_url).set(username=role, password="secret")
        reader = Database(url.render_as_string(hide_password=False))

        views.list_batches(reader, 1)
        with pytest.raises(DatabaseRefused, match="lacks INSERT on batches; its owner gives it with: GRANT"):
            insert_batch(reader, 1)

        reader.close()
        with owner.write() as connection:
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))
        owner.close()

    def test_a_role_s_statement_timeout_is_no_silence(self, postgresql_url: str) -> None:
        database = Database(f"{postgresql_url}?options=-c%20statement_timeout%3D50")

        with pytest.raises(DatabaseRefused, match="raise the role's statement_timeout"), database.read() as connection:
            connection.execute(text("SELECT pg_sleep(1)"))

        database.close()


class TestClosing:
    def test_a_connection_in_use_is_closed_when_its_user_is_done(self, database: Database) -> None:
        with database.read() as connection:
            driver = connection.connection.driver_connection
            database.close()
            connection.execute(text("SELECT 1"))

        with pytest.raises(database.engine.dialect.loaded_dbapi.Error, match="closed"):
            driver.execute("SELECT 1")

    def test_what_a_straggler_opens_afterwards_is_not_kept(self, database: Database) -> None:
        database.close()

        with database.read() as connection:
            driver = connection.connection.driver_connection

        with pytest.raises(database.engine.dialect.loaded_dbapi.Error, match="closed"):
            driver.execute("SELECT 1")
