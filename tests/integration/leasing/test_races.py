"""Two that write about the same jobs at once: one is first, the other finds that out, and nothing is in between."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from models.db import Database
from models.errors import BatchmillError, UsageError
from models.lifecycle import termination
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.states import AttemptOutcome, BatchStatus, JobOutcome, Termination
from models.tables.batches import Job
from producer.batches.actions import retry
from producer.batches.actions.cancel import cancel
from producer.batches.actions.retry import RetrySelection
from producer.readers.rows import Problem, Row, Source
from producer.submission import chunks, open_submission, submit
from producer.submission.request import SubmitRequest
from tests.factories.batch_rows import (
    LEASE_SECONDS,
    MODEL_VERSION,
    assert_consistent,
    claimant_for,
    expire_leases,
    get_batch,
    get_results,
    get_slice,
    get_unanswered_jobs,
    insert_batch,
    update_batch,
)
from tests.servers import WAIT_TIMEOUT_SECONDS
from tests.threads import run_concurrently
from worker.leasing import commit, reclaim
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, CommitResult, DeferredSlice, JobResult, RetryableFailure
from worker.leasing.leases import Lease
from worker.loading import versions
from worker.maintenance import batch_endings

ROUNDS = 6
SLICE = 4


@pytest.fixture(autouse=True)
def version_id(database: Database) -> int:
    return versions.register_version(database, MODEL_VERSION)


def held(database: Database, jobs: int = SLICE, **columns: Any) -> tuple[str, list[Lease]]:
    """A batch all of whose slices are leased to `worker-1`."""
    batch_id = insert_batch(database, jobs, slice_size=SLICE, **columns)
    return batch_id, claims.claim(database, claimant_for(), 1000, SLICE)


def close(
    database: Database, lease: Lease, outcome: JobOutcome = JobOutcome.SUCCEEDED, put_off: DeferredSlice | None = None
) -> CommitResult:
    """Close a slice whole, but for what is put off."""
    later = {deferral.position for deferral in put_off.failures} if put_off else set()
    code = None if outcome is JobOutcome.SUCCEEDED else "model_error"
    answers = [
        JobResult(lease, place, outcome, output="{}" if code is None else None, error_code=code)
        for place in range(lease.start_position, lease.start_position + lease.size)
        if place not in later
    ]
    with database.write() as connection:
        return commit.commit_results(
            connection,
            BatchCommit(
                [lease],
                answers,
                set() if put_off else {lease.slice_id},
                1,
                deferred_slices=[put_off] if put_off else (),
            ),
        )


def put_off(database: Database, lease: Lease) -> CommitResult:
    """Answer all but the last job of a slice, which is to be tried again."""
    deferral = RetryableFailure(lease, lease.start_position + lease.size - 1, "unavailable", "Busy.")
    return close(database, lease, put_off=DeferredSlice(lease, -1.0, (deferral,)))


def renew(database: Database, lease: Lease) -> bool:
    """Whether it is still held."""
    with database.write() as connection:
        return claims.renew(connection, database.sql, [lease], LEASE_SECONDS) == []


def release(database: Database, lease: Lease) -> bool:
    """Whether it was still held."""
    with database.write() as connection:
        return claims.release(connection, [lease]) == [lease]


def ended(database: Database, batch_id: str, ending: Termination) -> bool:
    """Whether it was this that ended the batch."""
    done = termination.terminate(database, batch_id, ending, None, None) is not None
    termination.finish_termination(database, batch_id)
    return done


def rerun(database: Database, batch_id: str, *outcomes: JobOutcome) -> int:
    """How many jobs were put back."""
    try:
        return retry.retry_jobs(database, batch_id, RetrySelection(outcomes), SLICE).jobs
    except UsageError:
        return 0


def work_off(database: Database) -> None:
    """Have another worker do all that there is."""
    while leases := claims.claim(database, claimant_for("worker-2"), 1000, SLICE):
        for lease in leases:
            answers = [
                JobResult(job.lease, job.position, JobOutcome.SUCCEEDED, "{}")
                for job in get_unanswered_jobs(database, [lease])
            ]
            with database.write() as connection:
                commit.commit_results(connection, BatchCommit([lease], answers, {lease.slice_id}, 1))


def test_of_two_that_close_the_same_slice_one_writes(database: Database) -> None:
    for _ in range(ROUNDS):
        batch_id, [lease] = held(database)

        closed = run_concurrently(*[lambda lease=lease: close(database, lease)] * 2)

        assert sorted(one.results_written for one in closed) == [0, SLICE]
        assert sorted(len(one.lost_slice_ids) for one in closed) == [0, 1]
        assert get_batch(database, batch_id).status == "completed"
        assert_consistent(database, batch_id)


@pytest.mark.parametrize("ending", [AttemptOutcome.KILLED, AttemptOutcome.CRASHED])
def test_closing_and_mourning(database: Database, ending: AttemptOutcome) -> None:
    for _ in range(ROUNDS):
        batch_id, [lease] = held(database)

        closed, found = run_concurrently(
            lambda lease=lease: close(database, lease),
            lambda: reclaim.reclaim_from_worker(database, "worker-1", ending, 3),
        )

        assert (closed.results_written == SLICE) is not bool(found.requeued)
        assert_consistent(database, batch_id)
        work_off(database)
        assert get_batch(database, batch_id).status == "completed"
        assert_consistent(database, batch_id)


def test_closing_and_a_deadline(database: Database) -> None:
    for _ in range(ROUNDS):
        batch_id, leases = held(database, 3 * SLICE)
        update_batch(database, batch_id, expires_at=datetime.now(UTC) - timedelta(hours=1))

        *closed, expired = run_concurrently(
            *[lambda lease=lease: close(database, lease).results_written for lease in leases],
            lambda: batch_endings.expire_batches(database) and 1,
        )
        batch_endings.finish_terminations(database, {})

        row = get_batch(database, batch_id)
        assert row.succeeded == sum(closed)
        assert (row.status, row.expired) == (("expired", 3 * SLICE - sum(closed)) if expired else ("completed", 0))
        assert_consistent(database, batch_id)


def test_the_last_closing_write_and_a_replay(database: Database) -> None:
    for _ in range(ROUNDS):
        batch_id, [lease] = held(database)

        closed, put_back = run_concurrently(
            lambda lease=lease: close(database, lease, JobOutcome.FAILED).results_written,
            lambda batch_id=batch_id: rerun(database, batch_id, JobOutcome.FAILED),
        )

        assert closed == SLICE
        row = get_batch(database, batch_id)
        assert (row.status, row.failed) == (("in_progress", 0) if put_back else ("completed", SLICE))
        assert_consistent(database, batch_id)
        work_off(database)


def test_a_late_closing_write_and_a_replay(database: Database) -> None:
    for _ in range(ROUNDS):
        batch_id, [lease] = held(database)
        cancel(database, batch_id)

        closed, put_back = run_concurrently(
            lambda lease=lease: close(database, lease).results_written,
            lambda batch_id=batch_id: rerun(database, batch_id, JobOutcome.CANCELLED),
        )

        assert (closed, put_back) == (0, SLICE), "the slices of a replay are not those that were taken away"
        assert get_results(database, batch_id) == []
        assert_consistent(database, batch_id)
        work_off(database)
        assert get_batch(database, batch_id).status == "completed"


def test_of_two_that_reclaim_each_slice_is_seen_to_once(database: Database) -> None:
    for _ in range(ROUNDS):
        batch_id, leases = held(database, 3 * SLICE)
        expire_leases(database, *leases)

        found = run_concurrently(
            lambda: reclaim.reclaim_expired(database, 3),
            lambda: reclaim.reclaim_from_worker(database, "worker-1", AttemptOutcome.KILLED, 3),
        )

        seen = sorted(slice_id for one in found for slice_id in one.requeued)
        assert seen == [lease.slice_id for lease in leases]
        assert_consistent(database, batch_id)
        work_off(database)


def test_reclaiming_and_a_heartbeat(database: Database) -> None:
    for _ in range(ROUNDS):
        batch_id, [lease] = held(database)
        expire_leases(database, lease)

        kept, found = run_concurrently(
            lambda lease=lease: renew(database, lease), lambda: bool(reclaim.reclaim_expired(database, 3).requeued)
        )

        assert kept or found, "either it lives or it is dead"
        assert get_slice(database, lease).state == ("queued" if found else "leased")
        assert renew(database, lease) is not found, "a heartbeat that passed over a locked row hears of it at the next"
        assert (close(database, lease).results_written == SLICE) is not found
        assert_consistent(database, batch_id)
        work_off(database)


def test_giving_back_and_reclaiming(database: Database) -> None:
    for _ in range(ROUNDS):
        batch_id, [lease] = held(database)
        expire_leases(database, lease)

        released, found = run_concurrently(
            lambda lease=lease: release(database, lease), lambda: bool(reclaim.reclaim_expired(database, 3).requeued)
        )

        assert released is not found
        row = get_slice(database, lease)
        assert (row.state, row.attempts, row.lost_leases) == (("queued", 0, 0) if released else ("queued", 1, 1))
        assert_consistent(database, batch_id)
        work_off(database)


@pytest.mark.parametrize("ending", [Termination.CANCELLED, Termination.FAILURE_LIMIT])
def test_putting_off_and_an_early_end(database: Database, ending: Termination) -> None:
    for _ in range(ROUNDS):
        batch_id, [lease] = held(database)

        closed, stopped = run_concurrently(
            lambda lease=lease: put_off(database, lease).results_written,
            lambda batch_id=batch_id: ended(database, batch_id, ending),
        )

        row = get_batch(database, batch_id)
        assert stopped, "one job is open, whoever was first"
        assert (row.succeeded, row.cancelled) == (closed, SLICE - closed)
        assert claims.claim(database, claimant_for("worker-2"), 1000, SLICE) == []
        assert_consistent(database, batch_id)


def test_putting_off_and_reclaiming(database: Database) -> None:
    for _ in range(ROUNDS):
        batch_id, [lease] = held(database)
        expire_leases(database, lease)

        closed, found = run_concurrently(
            lambda lease=lease: put_off(database, lease).results_written,
            lambda: len(reclaim.reclaim_expired(database, 3).requeued),
        )

        assert (closed, found) in ((SLICE - 1, 0), (0, 1))
        assert_consistent(database, batch_id)
        work_off(database)
        assert get_batch(database, batch_id).status == "completed"


def test_of_two_replays_one_puts_back(database: Database) -> None:
    for _ in range(ROUNDS):
        batch_id, leases = held(database, 2 * SLICE)
        for lease in leases:
            close(database, lease, JobOutcome.FAILED)

        put_back = run_concurrently(*[lambda batch_id=batch_id: rerun(database, batch_id, JobOutcome.FAILED)] * 2)

        assert sorted(put_back) == [0, 2 * SLICE]
        assert_consistent(database, batch_id)
        work_off(database)
        assert get_batch(database, batch_id).succeeded == 2 * SLICE


def test_of_two_replays_in_chunks_no_job_is_put_back_twice(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "CHUNK_JOBS", 3)
    for _ in range(ROUNDS):
        batch_id, leases = held(database, 4 * SLICE)
        for lease in leases:
            close(database, lease, JobOutcome.FAILED)

        run_concurrently(*[lambda batch_id=batch_id: rerun(database, batch_id, JobOutcome.FAILED)] * 2)

        assert_consistent(database, batch_id)
        work_off(database)
        while rerun(database, batch_id, JobOutcome.FAILED):  # each may have stopped the other half-way
            work_off(database)
        assert get_batch(database, batch_id).succeeded == 4 * SLICE
        assert_consistent(database, batch_id)


def test_a_replay_in_chunks_and_a_cancellation(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "CHUNK_JOBS", 3)
    for _ in range(ROUNDS):
        batch_id, leases = held(database, 4 * SLICE)
        for lease in leases:
            close(database, lease, JobOutcome.FAILED)

        run_concurrently(
            lambda batch_id=batch_id: rerun(database, batch_id, JobOutcome.FAILED),
            lambda batch_id=batch_id: ended(database, batch_id, Termination.CANCELLED),
        )

        assert_consistent(database, batch_id)
        work_off(database)
        row = get_batch(database, batch_id)
        assert row.succeeded + row.failed + row.cancelled == 4 * SLICE
        assert_consistent(database, batch_id)


def test_two_closing_writes_that_burn_a_batch(database: Database) -> None:
    for _ in range(ROUNDS):
        batch_id, leases = held(database, 4 * SLICE, max_failures=SLICE)

        closed = run_concurrently(*[lambda lease=lease: close(database, lease, JobOutcome.FAILED) for lease in leases])

        row = get_batch(database, batch_id)
        assert [one.final_status for one in closed].count(BatchStatus.FAILED) == 1
        assert (row.status, row.failed, row.cancelled) == ("failed", 2 * SLICE, 2 * SLICE)
        assert_consistent(database, batch_id)


def test_a_claim_and_a_cancellation(database: Database) -> None:
    for _ in range(ROUNDS):
        batch_id = insert_batch(database, 2 * SLICE, slice_size=SLICE)

        leases, stopped = run_concurrently(
            lambda: claims.claim(database, claimant_for(), 1000, SLICE),
            lambda batch_id=batch_id: ended(database, batch_id, Termination.CANCELLED),
        )

        assert stopped
        assert [close(database, lease).results_written for lease in leases] == [0] * len(leases)
        assert get_batch(database, batch_id).cancelled == 2 * SLICE
        assert_consistent(database, batch_id)


def test_reading_in_and_a_cancellation(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 5)
    request = SubmitRequest.create(BUILTIN_PIPELINES[0], on_invalid="fail-row")
    for number in range(ROUNDS):
        batch_id, begun = f"batch_race_{number}", threading.Event()
        monkeypatch.setattr(open_submission, "new_batch_id", lambda batch_id=batch_id: batch_id)
        source = Source("the inputs", "item", map(_row, range(200)))

        def read_in(source: Source = source, begun: threading.Event = begun) -> bool:
            try:
                submit.submit(database, SLICE, request, source, lambda _jobs: begun.set())
            except BatchmillError:
                return False
            return True

        def stop(batch_id: str = batch_id, begun: threading.Event = begun) -> bool:
            begun.wait(WAIT_TIMEOUT_SECONDS)
            return cancel(database, batch_id).status is BatchStatus.CANCELLED

        accepted, stopped = run_concurrently(read_in, stop)

        row = get_batch(database, batch_id)
        assert stopped
        assert (row.status, row.total) == ("cancelled", jobs(database, batch_id))
        assert (row.failed, row.cancelled) == (row.total // 5, row.total - row.total // 5)
        assert row.total == 200 or not accepted
        assert_consistent(database, batch_id)


def _row(place: int) -> Row | Problem:
    """Every fifth can't be a job."""
    return Problem(place, "it is no text", "invalid_input") if place % 5 == 0 else Row(place, None, {"text": "a text"})


def jobs(database: Database, batch_id: str) -> int:
    """How many are there."""
    with database.read() as connection:
        return connection.scalar(select(func.count()).where(Job.batch_id == batch_id)) or 0
