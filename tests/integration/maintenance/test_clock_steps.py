"""A database's clock that stepped back by an hour or a day delays nothing by more than a minute.

What was written before the step lies as far ahead as the step was: so it is made here.
"""

import os
import socket

import pytest
from sqlalchemy import text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.lifecycle import due_intakes
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.settings import Settings
from models.states import BatchStatus
from producer.submission import open_submission
from producer.submission.request import SubmitRequest
from producer.workers import workers
from tests.factories import batch_rows
from tests.factories.batch_rows import LEASE_SECONDS, claimant_for, execute, insert_batch
from worker.leasing import reclaim
from worker.leasing.claiming import claims
from worker.maintenance import batch_endings, clock_steps, tasks
from worker.maintenance.loop import MaintenanceLoop
from worker.maintenance.tasks import MaintenanceTask

STEPS = [3_600.0, 86_400.0]
MINUTE = 60.0
SAMPLE = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}["sample-sentiment-analysis"]
SUBMITTER = "another.example:boot:1:1:1:abc"


@pytest.fixture(params=STEPS)
def step(request: pytest.FixtureRequest) -> float:
    """By so many seconds the clock stepped back."""
    seconds: float = request.param
    return seconds


def put_ahead(database: Database, table: str, column: str, seconds: float) -> None:
    execute(database, f"UPDATE {table} SET {column} = {database.sql.now_plus_seconds}", seconds=seconds)


def seconds_ahead(database: Database, table: str, column: str) -> float:
    query = text(f"SELECT {column} AS moment, {database.sql.now} AS now FROM {table}")
    with database.read() as connection:
        row = connection.execute(query.columns(moment=UtcDateTime, now=UtcDateTime)).one()
    ahead: float = (row.moment - row.now).total_seconds()
    return ahead


def reset_timestamps(database: Database) -> str:
    return clock_steps.reset_future_timestamps(database, Settings(lease_seconds=LEASE_SECONDS))


def insert_run(database: Database) -> None:
    time = "2026-01-01 00:00:00"
    execute(
        database,
        "INSERT INTO schedules (name, definition, from_config, evaluated_until) VALUES ('s', '{}', :no, :at)",
        no=False,
        at=time,
    )
    execute(
        database,
        "INSERT INTO runs (schedule, scheduled_at, trigger, state, definition, concurrent, planned_at, next_check_at, "
        "holder_id) "
        "VALUES ('s', :at, 'cron', 'running', '{}', :no, :at, :at, 'somebody')",
        no=False,
        at=time,
    )


class TestDuties:
    def test_come_at_once(self, database: Database, step: float) -> None:
        ran: list[int] = []
        loop = MaintenanceLoop(
            database,
            [MaintenanceTask("sweep", 2.0, lambda: ran.append(1) or "", "sweep.done")],
            "me",
            reclaim_grace_seconds=1.0,
        )
        loop.run_once(0.0)
        put_ahead(database, "maintenance_tasks", "next_run_at", step + 2.0)

        loop.run_once(2.0)
        loop.run_once(4.0)

        assert len(ran) == 2, "once after the step, and not again before its next turn"

    def test_look_for_steps_themselves(self, database: Database) -> None:
        [clock] = [task for task in tasks.default_tasks(database, Settings()) if task.name == "clock_steps"]

        assert clock.interval_seconds + LEASE_SECONDS <= MINUTE
        assert clock.run() == ""


class TestLeases:
    def test_of_who_lives_are_renewed_and_others_run_out(self, database: Database, step: float) -> None:
        batch_id = insert_batch(database, 8)
        alive, expired = claims.claim(database, claimant_for(), 8, 4)
        put_ahead(database, "slices", "lease_expires_at", step + LEASE_SECONDS)

        summary = reset_timestamps(database)
        with database.write() as connection:
            assert claims.renew(connection, database.sql, [alive], LEASE_SECONDS + 5) == []
        ahead = {row.id: row.lease_expires_at for row in batch_rows.get_slices(database, batch_id)}

        assert "2 leases" in summary
        assert ahead[expired.slice_id] < ahead[alive.slice_id]
        with database.read() as connection:
            late = text(f"SELECT count(*) FROM slices WHERE lease_expires_at > {database.sql.now_plus_seconds}")
            assert connection.scalar(late, {"seconds": MINUTE}) == 0
        assert not reclaim.reclaim_expired(database, 3), "nobody was taken for dead"
        assert reset_timestamps(database) == ""

    def test_that_are_as_they_should_be_stay(self, database: Database) -> None:
        insert_batch(database, 4)
        claims.claim(database, claimant_for(lease_seconds=1.9 * LEASE_SECONDS), 4, 4)

        assert reset_timestamps(database) == ""

    def test_are_not_waited_for_by_a_batch_that_somebody_ends(self, database: Database, step: float) -> None:
        batch_id = insert_batch(database, 4)
        claims.claim(database, claimant_for(), 4, 4)
        put_ahead(database, "slices", "lease_expires_at", step)

        reset_timestamps(database)

        batch_rows.assert_consistent(database, batch_id)


def test_a_backoff_ends_within_a_minute(database: Database, step: float) -> None:
    insert_batch(database, 4)
    put_ahead(database, "slices", "available_at", step + 10.0)

    assert "1 backoffs" in reset_timestamps(database)

    assert seconds_ahead(database, "slices", "available_at") <= MINUTE


def test_a_run_whose_holder_died_is_free_within_a_minute(database: Database, step: float) -> None:
    insert_run(database)
    put_ahead(database, "runs", "held_until", step + 15.0)

    assert "1 runs.held_until" in reset_timestamps(database)

    assert seconds_ahead(database, "runs", "held_until") <= MINUTE


def test_a_source_that_was_late_is_looked_at_at_once(database: Database, step: float) -> None:
    insert_run(database)
    execute(database, "UPDATE runs SET state = 'waiting'")
    put_ahead(database, "runs", "next_check_at", step + 60.0)
    assert clock_steps.reset_future_timestamps(database, Settings(simulated_clock="2026-01-01T00:00Z")) == "", (
        "a simulated clock is another"
    )

    assert "1 runs.next_check_at" in reset_timestamps(database)

    assert seconds_ahead(database, "runs", "next_check_at") <= 0


class TestWorkers:
    @pytest.fixture(autouse=True)
    def worker(self, database: Database) -> None:
        execute(
            database,
            "INSERT INTO workers (id, host, pid, device, pipeline, model, served_pipelines, state) "
            "VALUES ('w', :host, :pid, 'cpu', 'p', 'm', '[\"p\"]', 'ready')",
            host=socket.gethostname(),
            pid=os.getpid(),
        )

    def alive(self, database: Database) -> bool:
        [view] = workers.list_workers(database, LEASE_SECONDS)
        return view.alive

    def test_that_say_nothing_any_more_are_not_taken_for_alive(self, database: Database, step: float) -> None:
        assert self.alive(database)
        put_ahead(database, "workers", "heartbeat_at", step)

        assert not self.alive(database)

    def test_age_again_from_the_step_on(self, database: Database, step: float) -> None:
        put_ahead(database, "workers", "heartbeat_at", step)

        reset_timestamps(database)

        assert seconds_ahead(database, "workers", "heartbeat_at") <= 0


class TestSubmitters:
    @pytest.fixture
    def batch_id(self, database: Database) -> str:
        """A batch under a key whose submitter is gone."""
        request = SubmitRequest.create(SAMPLE, idempotency_key="k")
        entry = open_submission.open_or_resume(database, request)
        execute(database, "UPDATE batches SET holder_id = :by", by=SUBMITTER)
        return entry.batch_id

    def enter(self, database: Database, pauses: list[float]) -> open_submission.OpenSubmission:
        return open_submission.open_or_resume(
            database, SubmitRequest.create(SAMPLE, idempotency_key="k"), sleep=pauses.append
        )

    def test_that_are_gone_are_succeeded_after_one_wait(self, database: Database, batch_id: str, step: float) -> None:
        put_ahead(database, "batches", "holder_heartbeat_at", step)
        pauses: list[float] = []

        entry = self.enter(database, pauses)

        assert (entry.batch_id, entry.status) == (batch_id, BatchStatus.VALIDATING)
        assert pauses == [open_submission.HOLDER_TIMEOUT_SECONDS]

    @pytest.mark.parametrize("column", ["holder_heartbeat_at", "created_at"])
    def test_age_again_from_the_step_on(self, database: Database, batch_id: str, step: float, column: str) -> None:
        put_ahead(database, "batches", column, step)

        reset_timestamps(database)

        assert seconds_ahead(database, "batches", "holder_heartbeat_at") <= 0
        execute(database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01'")
        assert batch_id in batch_endings.end_abandoned_batches(database, 60.0)

    def test_whose_file_is_read_later_keep_their_backoff(self, database: Database, batch_id: str, step: float) -> None:
        execute(database, "UPDATE batches SET holder_id = NULL, read_request = '{}' WHERE id = :id", id=batch_id)
        put_ahead(database, "batches", "holder_heartbeat_at", due_intakes.MAX_POSTPONED_SECONDS)
        assert reset_timestamps(database) == ""

        put_ahead(database, "batches", "holder_heartbeat_at", step)
        assert "1 batches.holder_heartbeat_at" in reset_timestamps(database)
        assert seconds_ahead(database, "batches", "holder_heartbeat_at") <= 0


def test_deadlines_stay_where_they_are(database: Database, step: float) -> None:
    insert_batch(database, 4)
    put_ahead(database, "batches", "expires_at", step)

    assert reset_timestamps(database) == ""

    assert seconds_ahead(database, "batches", "expires_at") > step - MINUTE
