"""Termination on both databases: cancelled, expired, past the failure limit. Each unanswered job is closed once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.errors import NotFound, UsageError
from models.lifecycle import termination
from models.processes import holders
from models.processes.holders import HolderId
from models.states import BatchStatus, JobOutcome, Termination
from producer.batches import views
from producer.batches.actions.cancel import cancel
from producer.submission.job_writer import FAILURE_COLUMNS
from tests.factories.batch_rows import (
    MODEL_VERSION,
    assert_consistent,
    claimant_for,
    get_batch,
    get_results,
    get_slices,
    insert_batch,
    update_batch,
)
from tests.threads import run_concurrently
from worker.leasing import commit
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, CommitResult, JobResult
from worker.leasing.leases import Lease
from worker.loading import versions
from worker.maintenance import batch_endings

SLICE = 4


def take(database: Database, room: int = 1000, worker_id: str = "worker-1") -> list[Lease]:
    return claims.claim(database, claimant_for(worker_id), room, SLICE)


def answer(database: Database, lease: Lease, *indexes: int, status: JobOutcome = JobOutcome.SUCCEEDED) -> CommitResult:
    """Write these jobs of a slice, or all of it."""
    output = "{}" if status is JobOutcome.SUCCEEDED else None
    results = [JobResult(lease, lease.start_position + index, status, output) for index in indexes or range(lease.size)]
    finished = set() if indexes else {lease.slice_id}
    version_id = versions.register_version(database, MODEL_VERSION)
    with database.write() as connection:
        return commit.commit_results(connection, BatchCommit([lease], results, finished, version_id))


class TestCancel:
    def test_keeps_what_is_done_and_closes_the_rest(self, database: Database) -> None:
        batch_id = insert_batch(database, 10)
        first = take(database, room=1)[0]
        answer(database, first, 0, 2)

        statuses = cancel(database, batch_id)

        assert statuses.status is BatchStatus.CANCELLED
        assert (statuses.counts.succeeded, statuses.counts.cancelled, statuses.counts.unanswered) == (2, 8, 0)
        rows = get_results(database, batch_id)
        assert [row.status for row in rows] == ["succeeded", "cancelled", "succeeded"] + ["cancelled"] * 7
        assert {row.error_code for row in rows if row.status == "cancelled"} == {"cancelled"}
        assert {row.state for row in get_slices(database, batch_id)} == {"done"}
        assert get_batch(database, batch_id).cancelled_at is not None
        assert_consistent(database, batch_id)

    def test_refuses_what_is_computed_later(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)
        [lease] = take(database)
        cancel(database, batch_id)

        assert answer(database, lease).lost_slice_ids == {lease.slice_id}

        with database.write() as connection:
            assert claims.renew(connection, database.sql, [lease], 30.0) == [lease]
        assert get_batch(database, batch_id).succeeded == 0
        assert_consistent(database, batch_id)

    def test_in_chunks_comes_to_the_same(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(termination, "CHUNK_JOBS", 3)
        batch_id = insert_batch(database, 10)
        answer(database, take(database, room=1)[0], 1)

        cancel(database, batch_id)

        assert get_batch(database, batch_id).cancelled == 9
        assert_consistent(database, batch_id)

    def test_that_was_broken_off_is_finished_by_a_duty(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(termination, "CHUNK_JOBS", 3)
        batch_id = insert_batch(database, 10)
        termination.terminate(database, batch_id, Termination.CANCELLED, None, None)
        half_way = get_batch(database, batch_id)
        assert (half_way.status, half_way.cancelled) == ("cancelling", 3)
        assert take(database) == []

        assert batch_id in batch_endings.finish_terminations(database, {})

        assert get_batch(database, batch_id).status == "cancelled"
        assert_consistent(database, batch_id)

    def test_ends_however_many_answered_jobs_are_before_the_first_unanswered_one(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given a batch whose answered jobs are more than a duty looks at in one run
        monkeypatch.setattr(termination, "CHUNK_JOBS", 2)
        monkeypatch.setattr(batch_endings, "MAX_CHUNKS_PER_RUN", 2)
        batch_id = insert_batch(database, 20)
        for lease in take(database, room=15):
            answer(database, lease)
        termination.terminate(database, batch_id, Termination.CANCELLED, None, None)
        positions: dict[str, int] = {}

        # When it runs again and again
        runs = 0
        while batch_endings.finish_terminations(database, positions):
            runs += 1
            assert runs <= 5, "it begins anew each time"

        # Then the batch ends, and is forgotten
        batch = get_batch(database, batch_id)
        assert (batch.status, batch.succeeded, batch.cancelled) == ("cancelled", 16, 4)
        assert positions == {}
        assert_consistent(database, batch_id)

    def test_looks_from_the_start_again_where_something_is_open_behind_it(self, database: Database) -> None:
        batch_id = insert_batch(database, 10)
        endings_begun(database, batch_id)

        step = termination.close_next_chunk(database, batch_id, after=6)
        assert (step.closed_jobs, step.last_position, step.has_ended) == (3, -1, False)
        assert termination.finish_termination(database, batch_id).closed_jobs == 7

        assert get_batch(database, batch_id).status == "cancelled"
        assert_consistent(database, batch_id)

    def test_by_many_at_once_closes_each_job_once(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(termination, "CHUNK_JOBS", 3)
        for _ in range(5):
            batch_id = insert_batch(database, 20)

            run_concurrently(*[lambda batch_id=batch_id: cancel(database, batch_id)] * 3)

            assert get_batch(database, batch_id).cancelled == 20
            assert_consistent(database, batch_id)

    def test_and_a_closing_write_at_once_leave_one_outcome_each(self, database: Database) -> None:
        for _ in range(10):
            batch_id = insert_batch(database, 12)
            leases = take(database)

            def write(leases: list[Lease] = leases) -> int:
                return sum(answer(database, lease).results_written for lease in leases)

            results, statuses = run_concurrently(write, lambda batch_id=batch_id: cancel_if_open(database, batch_id))

            row = get_batch(database, batch_id)
            assert row.succeeded == results
            assert row.succeeded + row.cancelled == 12
            assert row.status == ("cancelled" if statuses else "completed")
            assert_consistent(database, batch_id)

    def test_of_what_has_ended_is_refused(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)
        answer(database, take(database)[0])

        with pytest.raises(UsageError, match="completed already"):
            cancel(database, batch_id)

    def test_twice_is_fine(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)
        cancel(database, batch_id)

        assert cancel(database, batch_id).status is BatchStatus.CANCELLED

    def test_of_what_is_not_there_is_said(self, database: Database) -> None:
        with pytest.raises(NotFound):
            cancel(database, "batch_unknown")

    def test_of_one_that_is_still_read_in_counts_what_is_there(self, database: Database) -> None:
        batch_id = insert_batch(database, 6, status="validating", total=0)

        assert cancel(database, batch_id).counts.cancelled == 6


def test_of_one_that_is_read_in_with_failed_rows_counts_them(database: Database) -> None:
    batch_id = insert_batch(database, 6, status="validating", total=0)
    with database.write() as connection:
        rows = [(batch_id, index, seq, "failed", "invalid_text", "line 1", False, 0) for seq, index in ((1, 2), (2, 4))]
        insert_rows(connection, "results", FAILURE_COLUMNS, rows)

    statuses = cancel(database, batch_id)

    assert (statuses.counts.total, statuses.counts.failed, statuses.counts.cancelled) == (6, 2, 4)
    assert_consistent(database, batch_id)


def endings_begun(database: Database, batch_id: str) -> None:
    """Begin to cancel, and close nothing yet."""
    with database.write() as connection:
        termination.lock_batch(connection, database.sql, batch_id)
        termination.begin_termination(connection, database.sql, batch_id, Termination.CANCELLED, None, None)


def cancel_if_open(database: Database, batch_id: str) -> bool:
    try:
        cancel(database, batch_id)
    except UsageError:
        return False
    return True


class TestDeadline:
    def test_that_passed_expires_what_is_open(self, database: Database) -> None:
        batch_id = insert_batch(database, 8)
        answer(database, take(database, room=1)[0])
        update_batch(database, batch_id, expires_at=datetime.now(UTC) - timedelta(seconds=1))

        assert batch_id in batch_endings.expire_batches(database)

        row = get_batch(database, batch_id)
        assert (row.status, row.succeeded, row.expired) == ("expired", 4, 4)
        assert row.expired_at is not None
        assert {each.error_code for each in get_results(database, batch_id)[4:]} == {"deadline_exceeded"}
        assert_consistent(database, batch_id)

    def test_that_passed_lets_nothing_be_claimed(self, database: Database) -> None:
        insert_batch(database, 8, expires_at=datetime.now(UTC) - timedelta(seconds=1))

        assert take(database) == []

    def test_to_come_changes_nothing(self, database: Database) -> None:
        batch_id = insert_batch(database, 8, expires_at=datetime.now(UTC) + timedelta(hours=1))

        assert batch_endings.expire_batches(database) == ""

        assert get_batch(database, batch_id).status == "in_progress"


class TestErrorBudget:
    def test_that_is_spent_ends_the_batch(self, database: Database) -> None:
        batch_id = insert_batch(database, 12, max_failures=2)
        first, second, _ = take(database)
        answer(database, first, 0, 1, status=JobOutcome.FAILED)
        assert get_batch(database, batch_id).status == "in_progress", "two are allowed"

        closed_jobs = answer(database, second, 0, status=JobOutcome.FAILED)

        assert closed_jobs.final_status == "failed"
        row = get_batch(database, batch_id)
        assert (row.status, row.failed, row.cancelled, row.error_code) == ("failed", 3, 9, "too_many_failures")
        assert "3 jobs failed, more than the 2" in row.error_message
        assert {each.error_code for each in get_results(database, batch_id) if each.status == "cancelled"} == {
            "too_many_failures"
        }
        assert answer(database, first).lost_slice_ids == {first.slice_id}
        assert_consistent(database, batch_id)

    def test_that_is_spent_by_the_last_jobs_fails_the_batch(self, database: Database) -> None:
        batch_id = insert_batch(database, 4, max_failures=3)

        closed_jobs = answer(database, take(database)[0], status=JobOutcome.FAILED)

        assert closed_jobs.final_status == "failed"
        assert get_batch(database, batch_id).error_code == "too_many_failures"
        assert_consistent(database, batch_id)

    def test_that_is_kept_lets_the_batch_complete(self, database: Database) -> None:
        batch_id = insert_batch(database, 4, max_failures=4)

        assert answer(database, take(database)[0], status=JobOutcome.FAILED).final_status == "completed"

        assert get_batch(database, batch_id).error_code is None


class TestAbandoned:
    def test_a_batch_that_no_process_can_accept_is_deleted_at_once(self, database: Database) -> None:
        ours = HolderId.parse(holders.new_holder_id())
        assert ours is not None
        exited = str(replace(ours, start_time="1"))  # another process has our id by now
        fields: dict[str, Any] = {"status": "validating", "total": 0, "holder_heartbeat_at": datetime.now(UTC)}
        orphan = insert_batch(database, 6, holder_id=exited, **fields)
        others = [
            insert_batch(database, 2, holder_id=holders.new_holder_id(), **fields),
            insert_batch(database, 2, holder_id="elsewhere:b:n:1:1:x", **fields),
            insert_batch(database, 2, holder_id=exited, idempotency_key="k", **fields),
            insert_batch(database, 2, **fields),
            insert_batch(database, 2, holder_id=exited),
        ]

        assert batch_endings.end_abandoned_batches(database, 3600.0) == f"abandoned during submission: {orphan}"
        assert orphan in batch_endings.delete_old_batches(database, None)

        assert {view.id for view in views.list_batches(database, 100)} == set(others)

    def test_submits_end_when_nothing_was_heard_for_long(self, database: Database) -> None:
        silent = datetime.now(UTC) - timedelta(hours=2)
        old = insert_batch(database, 6, status="validating", total=0, holder_heartbeat_at=silent)
        young = insert_batch(database, 6, status="validating", total=0, holder_heartbeat_at=datetime.now(UTC))

        assert old in batch_endings.end_abandoned_batches(database, 3600.0)

        row = get_batch(database, old)
        assert (row.status, row.total, row.failed, row.error_code) == ("failed", 6, 6, "submission_abandoned")
        assert get_batch(database, young).status == "validating"
        assert_consistent(database, old)
