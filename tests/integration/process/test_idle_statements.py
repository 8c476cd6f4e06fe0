"""An idle worker process sends few statements to PostgreSQL, counted as the server receives them."""

import tempfile
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest
from sqlalchemy import event

from models.db import Database, PoolOptions
from models.pipelines.pipeline import Pipeline
from models.settings import Settings
from tests.factories.batch_rows import LEASE_SECONDS, MODEL_VERSION, claimant_for, execute
from tests.factories.engines import make_context, make_loaded_pipeline
from tests.fakes import FakeAdapter
from worker.engine.claiming import SliceClaimer
from worker.loading.runtime import Runtime
from worker.maintenance import tasks
from worker.maintenance.loop import MaintenanceLoop
from worker.process.heartbeat import Heartbeat
from worker.process.pipeline_loader import PipelineLoader
from worker.process.pipeline_switcher import PipelineSwitcher

MAX_STATEMENTS_PER_SECOND = 2.0
SECONDS = 120  # of simulated time
PIPELINES = ("reviews", "tickets")


class StatementCounter:
    """Counts the statements on all connections of a database, with BEGIN and ROLLBACK, by tracing the protocol."""

    def __init__(self, database: Database, trace: BinaryIO) -> None:
        self._trace = trace
        self._start = 0
        event.listen(database.engine, "connect", self._trace_connection)

    def _trace_connection(self, driver: Any, _record: Any) -> None:
        driver.pgconn.trace(self._trace.fileno())

    def reset(self) -> None:
        self._start = len(self._lines())

    def count(self) -> int:
        messages = [line.split(b"\t")[3].strip() for line in self._lines()[self._start :] if b"\tF\t" in line]
        return sum(message in (b"Query", b"Execute") for message in messages)

    def _lines(self) -> list[bytes]:
        self._trace.seek(0)
        return self._trace.read().splitlines()


@pytest.fixture
def database(postgresql_url: str) -> Iterator[Database]:
    database = Database(postgresql_url, pool=PoolOptions(max_connections=1))
    yield database
    database.close()


@pytest.fixture
def counter(database: Database) -> Iterator[StatementCounter]:
    with tempfile.TemporaryFile() as trace:
        yield StatementCounter(database, trace)
        database.close()


def test_an_idle_process_sends_at_most_two_statements_a_second(
    database: Database, counter: StatementCounter, postgresql_url: str
) -> None:
    settings = Settings()
    context = make_context(database, pipelines=PIPELINES)
    runtime = Runtime(FakeAdapter(), MODEL_VERSION, 1000, None, None, 1, 0)
    claimer = SliceClaimer(context, make_loaded_pipeline(database, runtime), log=None)
    heartbeat = Heartbeat(
        database,
        context.held_leases,
        dict.fromkeys(PIPELINES, "hash"),
        lease_seconds=LEASE_SECONDS,
        heartbeat_seconds=settings.heartbeat_seconds,
    )
    heartbeat.record_ready(claimant_for(), "cpu")
    pipelines = {name: Pipeline(name=name, task="sentiment-analysis", model="made/model") for name in PIPELINES}
    switcher = PipelineSwitcher(context, pipelines, PipelineLoader(context, heartbeat, lambda _pipeline: runtime))
    switcher._stopping.set()  # so that `run_once` only looks for work
    maintenance = MaintenanceLoop(
        database, tasks.default_tasks(database, settings), "worker-1", reclaim_grace_seconds=5.0
    )
    rest = Database(postgresql_url)
    for act in (claimer.claim, heartbeat.run_once, lambda: maintenance.run_once(0.0)):
        act()
    counter.reset()

    for second in range(SECONDS):
        if second % settings.poll_interval_seconds == 0:
            assert claimer.claim() == ([], [])
            switcher.run_once(float(second))
        if second % settings.heartbeat_seconds == 0:
            heartbeat.run_once()
        execute(rest, "UPDATE maintenance_tasks SET next_run_at = '2026-01-01 00:00:00'")
        maintenance.run_once(float(second))

    assert 0.5 * SECONDS < counter.count() < MAX_STATEMENTS_PER_SECOND * SECONDS
    rest.close()


@pytest.mark.parametrize(("unused_seconds", "pings"), [(0.0, 0), (60.0, 1)])
def test_a_connection_is_pinged_only_after_a_while(
    database: Database, counter: StatementCounter, monkeypatch: pytest.MonkeyPatch, unused_seconds: float, pings: int
) -> None:
    execute(database, "SELECT 1")
    counter.reset()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + unused_seconds)

    with database.statement() as connection:
        connection.exec_driver_sql("SELECT 1")

    assert counter.count() == 1 + pings
