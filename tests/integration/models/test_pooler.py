"""Behind a pooler that gives each transaction another session: nothing of a session is relied on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

import batchmill
from models.db import Database, PoolOptions
from models.errors import DatabaseRefused
from models.postgresql import session
from models.states import BatchStatus
from producer.results import pages
from producer.results.tables import user_table
from producer.results.tabular import TabularLayout
from producer.schedules.runs.output.output_table import OutputTable
from tests import fake_worker
from tests.factories import batch_rows
from tests.factories.batch_rows import MODEL_VERSION, claimant_for, get_unanswered_jobs, insert_batch
from worker.leasing import commit
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.loading import versions

SAMPLE = "sample-sentiment-analysis"
SHEET = TabularLayout.from_example(["text"], {"label": "x", "score": 1.0})
IDLE = "SELECT current_setting('idle_in_transaction_session_timeout')"


def forget_after_each_transaction(engine: Engine) -> None:
    """What a session has, temporary tables and prepared statements, is gone with each transaction."""
    for name in ("do_commit", "do_rollback"):
        ends = getattr(engine.dialect, name)

        def end(connection: Any, ends: Any = ends) -> None:
            ends(connection)
            driver = getattr(connection, "dbapi_connection", connection)
            if not driver.closed:
                driver.autocommit = True
                driver.execute("DISCARD ALL", prepare=False)
                driver.autocommit = False

        setattr(engine.dialect, name, end)


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine of PostgreSQL is as behind such a pooler."""
    make = session.create_postgresql_engine

    def made(*given: Any, **how: Any) -> Engine:
        engine = make(*given, **how)
        forget_after_each_transaction(engine)
        return engine

    monkeypatch.setattr(session, "create_postgresql_engine", made)


@pytest.fixture
def database(pooled: None, postgresql_url: str) -> Iterator[Database]:
    database = Database(postgresql_url, idle_seconds=7, pool=PoolOptions(2, behind_pooler=True))
    yield database
    database.close()


def test_the_pooler_forgets(database: Database) -> None:
    """Else the other tests here would prove nothing."""
    with database.session() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE kept (a int)"))
        connection.commit()
        with pytest.raises(DatabaseRefused), database._guard_connection():
            connection.execute(text("SELECT * FROM kept"))


def test_what_a_session_is_told_it_is_told_in_each_transaction(database: Database) -> None:
    with database.read() as connection:
        assert connection.scalar(text(IDLE)) == "7s"
        driver: Any = connection.connection.driver_connection
        assert driver.prepare_threshold is None
        assert not driver.info.get_parameters().get("options")


def test_the_same_statement_many_times(database: Database) -> None:
    with database.read() as connection:
        for _ in range(10):  # psycopg prepares after five
            assert connection.scalar(text("SELECT 1")) == 1
        assert connection.execute(text("SELECT * FROM pg_prepared_statements")).all() == []


def test_work_from_the_claim_to_the_last_row(database: Database) -> None:
    batch_id = insert_batch(database, 8)
    version = versions.register_version(database, MODEL_VERSION)
    leases = claims.claim(database, claimant_for(), 8, 4)
    jobs = get_unanswered_jobs(database, leases)
    found = [JobResult(job.lease, job.position, commit.JobOutcome.SUCCEEDED, output='{"label": "A"}') for job in jobs]
    with database.write() as connection:
        done = commit.commit_results(
            connection, BatchCommit(leases, found, {lease.slice_id for lease in leases}, version)
        )

    assert done.final_status is BatchStatus.COMPLETED
    batch_rows.assert_consistent(database, batch_id)


def test_tables_of_one_s_own(database: Database) -> None:
    batch_id = insert_batch(database, 3)
    with database.write() as connection:
        connection.execute(text("UPDATE jobs SET custom_id = 'id ' || position"))
    fake_worker.write_results(database, batch_id, [(place, {"label": "A", "score": 0.5}) for place in range(3)])

    for _ in range(2):
        assert (
            user_table.write_table(database, batch_id, "labels", pages.iter_by_position(database, batch_id), SHEET) == 3
        )
    sink = OutputTable("sunk", SHEET, batch_rows.FIRST_CREATED_AT)
    with sink.stage(database, pages.iter_by_position(database, batch_id)) as ready:
        ready.merge_once("daily", batch_id)

    with database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM labels JOIN sunk USING (batch_id, label)")) == 9


def test_a_query_that_is_broken_off(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "FETCH_ROWS", 1)
    batch_id = insert_batch(database, 5)
    fake_worker.write_results(database, batch_id, [(place, {"label": "A", "score": 0.5}) for place in range(5)])

    rows, is_more = pages.fetch_page(database, batch_id, 0, 5, max_characters=1)

    assert ([row.seq for row in rows], is_more) == ([1], True)
    assert [row.seq for row in pages.iter_results(database, batch_id)] == [1, 2, 3, 4, 5]


def test_commands(database: Database, postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_DATABASE_BEHIND_POOLER", "1")
    (tmp_path / "in.jsonl").write_text('"good"\n' * 20)

    def run(*words: str) -> str:
        result = CliRunner().invoke(batchmill.cli, ["--database-url", postgresql_url, *words])
        assert result.exit_code == 0, result.stderr
        return result.stdout

    first = run("submit", str(tmp_path / "in.jsonl"), "--pipeline", SAMPLE, "--reuse").strip()
    second = run(
        "submit", str(tmp_path / "in.jsonl"), "--pipeline", SAMPLE, "--reuse", "--idempotency-key", "k"
    ).strip()
    run("cancel", first)
    for words in (("show", second), ("results", first, "--to-sql", "labels"), ("audit",), ("delete", first), ("ls",)):
        run(*words)
