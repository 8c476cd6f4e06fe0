"""How much PostgreSQL reads for what is looked up all the time, in blocks, whatever it knows of the tables.

It knows nothing, as right after the first submit, or it knows the tables as they were before a large batch came. Times
would tell less: a plan that reads a batch from its beginning is quick on a small one, and takes minutes on a large one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from models import vectors
from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.guards.definition import Guard
from models.lifecycle import termination
from models.settings import Settings
from producer.batches import views
from producer.batches.progress import progress_tracker
from producer.results import pages
from producer.results.formats import matrix
from tests import fake_worker
from tests.factories.batch_rows import get_unanswered_jobs
from tests.factories.consistent_batch import execute_all
from tests.servers import PostgresDatabases
from worker.leasing import backlog
from worker.leasing.claiming import claims
from worker.leasing.claiming.claim_statements import MAX_SLICES
from worker.leasing.leases import Claimant, Lease
from worker.maintenance import tasks

JOBS = 60_000
SLICE_JOBS = 1_000
LARGE = "large"
MOST_OF_A_PAGE = 8_000  # some six blocks for each of a thousand rows; a scan of the batch takes a hundred thousand
MOST_OF_A_LOOK = 300
MOST_OF_A_CLAIM = 60 * MAX_SLICES  # that many blocks for each slice that it takes: found, locked, written anew
MOST_OF_A_TENANT = 12

PIPELINE = "small"
SMALL_BATCHES = 3_000
BATCH_COLUMNS = (
    "id",
    "pipeline",
    "task",
    "model",
    "revision",
    "parameters",
    "metadata",
    "status",
    "total",
    "tenant",
    "guarded",
)

TABLES = ("batches", "batch_guards", "jobs", "slices", "results", "model_versions")

BATCH = """
INSERT INTO batches (id, pipeline, task, model, revision, parameters, metadata, status, total, succeeded, failed,
                     last_seq)
VALUES (:id, 'reviews', 'sentiment-analysis', 'made', 'abc', '{}', '{}', 'in_progress', :jobs, :jobs / 2, :jobs / 2,
        :jobs)
"""

INSERT_GUARDS = """
INSERT INTO batch_guards (batch_id, guard, stage, action)
SELECT id, 'first', 'input', 'flag' FROM batches WHERE guarded ON CONFLICT DO NOTHING
"""

# As the README tells people to page.
VIEW_BY_SEQ = """
SELECT * FROM job_results WHERE batch_id = 'large' AND seq > :cursor ORDER BY seq LIMIT 1000
"""
VIEW_BY_POSITION = """
SELECT * FROM job_results WHERE batch_id = 'large' AND position >= :cursor AND position < :cursor + 1000
ORDER BY position
"""

READ = """
SELECT coalesce(sum(pg_stat_get_xact_blocks_fetched(c.oid)), 0) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind IN ('r', 'i')
"""


@pytest.fixture(scope="module", params=["nothing is known", "a small batch is known"])
def database(
    request: pytest.FixtureRequest, postgres_server: PostgresDatabases, postgresql_template: str
) -> Iterator[Database]:
    name = "batchmill_plans"
    database = Database(postgres_server.create_database(name, template=postgresql_template))
    with database.write() as connection:
        for table in TABLES:  # nobody analyses them behind our back
            connection.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
    fill(database, "small", 2_000)
    if request.param == "a small batch is known":
        with database.write() as connection:
            connection.execute(text("ANALYZE"))
    fill(database, LARGE, JOBS)
    yield database
    database.close()
    postgres_server.drop_database(name)


def fill(database: Database, batch_id: str, jobs: int) -> None:
    """Every second job succeeded, the others failed; the last slices are as good as queued."""
    version = fake_worker.ensure_model_version(database)
    with database.write() as connection:
        connection.execute(text(BATCH), {"id": batch_id, "jobs": jobs})
        states = ((n, "queued" if n + 2 * SLICE_JOBS > jobs else "done") for n in range(0, jobs, SLICE_JOBS))
        insert_rows(
            connection,
            "slices",
            ("batch_id", "start_position", "size", "state"),
            ((batch_id, first, SLICE_JOBS, state) for first, state in states),
        )
        insert_rows(
            connection,
            "jobs",
            ("batch_id", "position", "custom_id", "input"),
            ((batch_id, n, f"id-{n}", f'{{"text": "review number {n}"}}') for n in range(jobs)),
        )
        insert_rows(connection, "results", fake_worker.RESULT_COLUMNS, outcomes(batch_id, jobs, version))


def outcomes(batch_id: str, jobs: int, version: int) -> Iterator[tuple[Any, ...]]:
    for n in range(jobs):
        if n % 2:
            yield batch_id, n, n + 1, "failed", None, "too_long", "it is too long", False, 1, None
        else:
            yield batch_id, n, n + 1, "succeeded", '{"label": "GOOD"}', None, None, False, 1, version


@contextmanager
def write_statement(database: Database, *, read_only: bool = True) -> Iterator[Connection]:
    with database.write() as connection:
        yield connection


@contextmanager
def most_read(database: Database, most: int) -> Iterator[None]:
    """No statement within may have PostgreSQL look at more blocks."""
    before: list[int] = []

    def begin(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement != READ:
            before.append(connection.exec_driver_sql(READ).scalar_one())

    def end(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement != READ:
            read = connection.exec_driver_sql(READ).scalar_one() - before.pop()
            assert read <= most, f"{read:,} blocks: {statement}"

    event.listen(database.engine, "before_cursor_execute", begin)
    event.listen(database.engine, "after_cursor_execute", end)
    try:
        yield
    finally:
        event.remove(database.engine, "before_cursor_execute", begin)
        event.remove(database.engine, "after_cursor_execute", end)


@pytest.fixture(params=["auto", "force_generic_plan"])
def planned(database: Database, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Statements are planned with their values, or once for all values as psycopg has it after some turns."""
    monkeypatch.setattr(Database, "statement", write_statement)  # blocks are counted for each transaction
    with database.engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.prepare_threshold = 5 if request.param == "auto" else 0
        connection.exec_driver_sql(f"SET plan_cache_mode = {request.param}")
        connection.commit()
    return database


@pytest.mark.parametrize("cursor", [0, JOBS // 2, JOBS - 2_000])
def test_a_page_reads_what_is_on_it(planned: Database, cursor: int) -> None:
    with most_read(planned, MOST_OF_A_PAGE):
        [landed] = pages.iter_pages(planned, LARGE, cursor, pages.PAGE_ROWS)
        placed = pages.fetch_page_by_position(planned, LARGE, cursor - 1)
        failed = list(pages.iter_failed(planned, LARGE, limit=500))

    assert [row.seq for row in landed] == list(range(cursor + 1, cursor + 1_001))
    assert [row.position for row in placed] == list(range(cursor, cursor + 1_000))
    assert [row.position for row in failed] == list(range(1, 1_000, 2))


def test_a_page_of_a_matrix_reads_what_is_on_it(planned: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "PAGE_BYTES", 1_000 * vectors.NUMBER_BYTES)

    with most_read(planned, MOST_OF_A_PAGE):
        assert list(matrix._iter_vectors(planned, LARGE, JOBS, 1)) == []


@pytest.mark.parametrize("cursor", [0, JOBS // 2, JOBS - 2_000])
@pytest.mark.parametrize("query", [VIEW_BY_SEQ, VIEW_BY_POSITION])
def test_so_does_one_of_the_view(planned: Database, cursor: int, query: str) -> None:
    with most_read(planned, MOST_OF_A_PAGE), planned.read() as connection:
        assert len(connection.execute(text(query), {"cursor": cursor}).all()) == 1_000


def test_a_status_reads_next_to_nothing(planned: Database) -> None:
    with most_read(planned, MOST_OF_A_LOOK):
        batch = views.get_batch(planned, LARGE)
        example = pages.first_success(planned, LARGE)
        assert example is not None
        with planned.read() as connection:
            last = connection.scalar(text(progress_tracker.SELECT_LAST_SEQ), {"batch_id": LARGE})
            workers = text(progress_tracker.SELECT_ACTIVE_WORKERS.format(now=planned.sql.now))
            active = connection.execute(workers, {"batch_id": LARGE}).all()

    assert example.output == {"label": "GOOD"}
    assert (batch.counts.ended, batch.device, last, active) == (JOBS, "cpu", JOBS, [])


def test_the_open_jobs_of_a_slice_are_found_by_their_places(planned: Database) -> None:
    lease = Lease(1, LARGE, start_position=JOBS // 2, size=SLICE_JOBS, fencing_token=1, attempts=1)

    with most_read(planned, MOST_OF_A_PAGE):
        assert get_unanswered_jobs(planned, [lease]) == []


def test_a_claim_reads_what_it_takes(planned: Database) -> None:
    """Beside many batches of one job, of which many are out with somebody, whatever else is looked at by then."""
    who = Claimant("worker-1", PIPELINE, "sentiment-analysis", "made", "abc", 60.0)
    fill_small(planned)

    with most_read(planned, MOST_OF_A_CLAIM):
        assert len(claims.claim(planned, who, 4096, SLICE_JOBS)) == MAX_SLICES
    with most_read(planned, MOST_OF_A_LOOK):
        assert len(claims.claim(planned, who, 1, SLICE_JOBS)) == 1
        assert claims.next_quarantined(planned, who) is None
        assert [row.pipeline for row in backlog.select_claimable_work(planned, {PIPELINE: ()})] == [PIPELINE]


def test_maintenance_without_work_reads_next_to_nothing(planned: Database) -> None:
    """Beside many slices that other processes hold or that are queued."""
    who = Claimant("worker-1", PIPELINE, "sentiment-analysis", "made", "abc", 60.0)
    fill_small(planned)
    assert len(claims.claim(planned, who, 4096, SLICE_JOBS)) == MAX_SLICES
    frequent = [task for task in tasks.default_tasks(planned, Settings()) if task.interval_seconds < 15]

    has_work = {}
    with planned.read() as connection, most_read(planned, MOST_OF_A_LOOK):
        for task in frequent:
            has_work[task.name] = connection.scalar(text(f"SELECT {task.has_work}"))

    assert [name for name, answer in has_work.items() if answer] == ["wakeups"]


@pytest.mark.parametrize("tenants", [2, 1_000])
def test_a_claim_of_several_tenants_reads_what_it_takes(planned: Database, tenants: int) -> None:
    """Besides, it looks at each tenant's first slice and at its turn."""
    pipeline = f"of_{tenants}"
    who = Claimant("worker-1", pipeline, "sentiment-analysis", "made", "abc", 60.0)
    fill_small(planned, pipeline, batches=1_000, tenants=tenants)

    with most_read(planned, MOST_OF_A_CLAIM):
        assert len(claims.claim(planned, who, 4096, SLICE_JOBS)) == MAX_SLICES
    with most_read(planned, MOST_OF_A_LOOK + MOST_OF_A_TENANT * tenants):
        assert len(claims.claim(planned, who, 1, SLICE_JOBS)) == 1


def fill_small(
    database: Database,
    pipeline: str = PIPELINE,
    *,
    batches: int = SMALL_BATCHES,
    guarded: bool = False,
    tenants: int = 1,
) -> None:
    """More batches of one job, behind those of a test before; nobody has them yet."""
    with database.write() as connection:
        begun = connection.execute(text("SELECT count(*) FROM batches")).scalar_one()
        ids = [f"small_{begun + number:06}" for number in range(batches)]
        insert_rows(
            connection,
            "batches",
            BATCH_COLUMNS,
            (
                (*row, f"tenant-{number % tenants:04}", guarded)
                for number, row in enumerate(
                    (batch_id, pipeline, "sentiment-analysis", "made", "abc", "{}", "{}", "in_progress", 1)
                    for batch_id in ids
                )
            ),
        )
        insert_rows(
            connection,
            "slices",
            ("batch_id", "start_position", "size", "state"),
            ((batch_id, 0, 1, "queued") for batch_id in ids),
        )


def test_a_step_of_an_early_end_reads_its_own_chunk(planned: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(termination, "CHUNK_JOBS", 1_000)
    with planned.write() as connection:
        ending = (
            "UPDATE batches SET status = 'cancelling', terminating_as = 'cancelled', total = total + 1 "
            "WHERE id = 'large'"
        )
        connection.execute(text(ending))
    try:
        with most_read(planned, MOST_OF_A_PAGE):
            step = termination.close_next_chunk(planned, LARGE, after=JOBS // 2)
    finally:
        with planned.write() as connection:
            undone = (
                "UPDATE batches SET status = 'in_progress', terminating_as = NULL, total = total - 1 WHERE id = 'large'"
            )
            connection.execute(text(undone))

    assert (step.closed_jobs, step.has_ended) == (0, False)


def test_a_claim_reads_no_more_for_guards(planned: Database) -> None:
    """Each of its batches has one, and so has each of many others."""
    guards = {"first": Guard(on="input", action="flag", words=("a",))}
    who = Claimant("worker-1", "guarded", "sentiment-analysis", "made", "abc", 60.0, guards=guards)
    fill_small(planned, "guarded", guarded=True)
    execute_all(planned, INSERT_GUARDS)

    with most_read(planned, MOST_OF_A_CLAIM):
        assert len(claims.claim(planned, who, 4096, SLICE_JOBS)) == MAX_SLICES
        assert claims.claim(planned, replace(who, guards={}), 4096, SLICE_JOBS) == []
