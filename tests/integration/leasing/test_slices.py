"""Slices: whoever holds none by batch, id, token and state changes none, whatever happened meanwhile."""

import pytest
from sqlalchemy import text

from models.db import Database
from models.states import AttemptOutcome, JobOutcome
from producer.batches.actions import delete, retry
from producer.batches.actions.retry import RetrySelection
from tests.factories import batch_rows
from tests.factories.batch_rows import MODEL_VERSION, claimant_for, execute, insert_batch
from worker.leasing import commit, reclaim
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, CommitResult, JobResult
from worker.leasing.leases import Lease
from worker.leasing.quarantine import CRASH_LOOP_JOBS
from worker.loading import versions

MAX_ATTEMPTS = 3
MANY = 262_144  # jobs: the most that a window may have


def close(database: Database, lease: Lease, indexes: range, *, again: bool = False) -> CommitResult:
    version = versions.register_version(database, MODEL_VERSION)
    answers = [JobResult(lease, index, JobOutcome.SUCCEEDED, "{}") for index in indexes]
    with database.write() as connection:
        return commit.commit_results(
            connection, BatchCommit([lease], answers, {lease.slice_id}, version), is_retry=again
        )


class TestReclaim:
    def test_of_a_batch_that_burns_meanwhile_leaves_no_slice_behind(self, database: Database) -> None:
        """A death buries one job, the batch allows no failure, and its other slices were found before that."""
        batch_id = insert_batch(database, [{"text": str(index)} for index in range(5)], slice_size=1, max_failures=0)
        claims.claim(database, claimant_for(), 5, 1)
        execute(database, "UPDATE slices SET crashes = 2 WHERE batch_id = :id AND start_position = 1", id=batch_id)

        done = reclaim.reclaim_from_worker(database, "worker-1", AttemptOutcome.CRASHED, MAX_ATTEMPTS)

        assert (len(done.dead_lettered), done.requeued, done.claimable) == (1, [], {})
        assert batch_rows.get_batch(database, batch_id).status == "failed"
        assert {row.state for row in batch_rows.get_slices(database, batch_id)} == {"done"}
        batch_rows.assert_consistent(database, batch_id)
        assert (
            retry.retry_jobs(database, batch_id, RetrySelection((JobOutcome.FAILED, JobOutcome.CANCELLED)), 4).jobs == 5
        )
        batch_rows.assert_consistent(database, batch_id)

    @pytest.mark.parametrize("ending", [AttemptOutcome.CRASHED, AttemptOutcome.HUNG])
    def test_of_a_batch_whose_every_input_ends_its_worker_comes_to_an_end(
        self, database: Database, ending: AttemptOutcome
    ) -> None:
        batch_id = insert_batch(database, 1000, slice_size=1000)
        deaths = 0
        while batch_rows.get_batch(database, batch_id).status == "in_progress":
            suspect = deaths >= 2
            assert claims.claim(database, claimant_for(), 1 if suspect else MANY, 1000, from_quarantine=suspect)
            reclaim.reclaim_from_worker(database, "worker-1", ending, MAX_ATTEMPTS)
            deaths += 1

        batch = batch_rows.get_batch(database, batch_id)
        assert deaths == 2 + CRASH_LOOP_JOBS
        assert (batch.status, batch.error_code, batch.failed) == ("failed", "crash_loop", 1000)
        assert batch.error_message.startswith("8 inputs in a row ended or hung their workers, and none was answered")
        batch_rows.assert_consistent(database, batch_id)
        assert retry.retry_jobs(database, batch_id, RetrySelection((JobOutcome.FAILED,)), 4).jobs == 1000
        batch_rows.assert_consistent(database, batch_id)

    def test_of_a_batch_with_an_answer_goes_on_however_many_inputs_end_their_workers(self, database: Database) -> None:
        batch_id = insert_batch(database, 20, slice_size=1)
        [lease] = claims.claim(database, claimant_for(), 1, 1)
        close(database, lease, range(1))
        execute(database, "UPDATE slices SET crashes = 2 WHERE batch_id = :id AND state = 'queued'", id=batch_id)
        for _ in range(CRASH_LOOP_JOBS + 4):
            claims.claim(database, claimant_for(), 1, 1, from_quarantine=True)
            reclaim.reclaim_from_worker(database, "worker-1", AttemptOutcome.CRASHED, MAX_ATTEMPTS)

        batch = batch_rows.get_batch(database, batch_id)
        assert (batch.status, batch.succeeded, batch.failed) == ("in_progress", 1, CRASH_LOOP_JOBS + 4)

    def test_of_the_last_open_job_ends_the_batch(self, database: Database) -> None:
        batch_id = insert_batch(database, 1)
        claims.claim(database, claimant_for(), 1, 1)
        execute(database, "UPDATE slices SET crashes = 2 WHERE batch_id = :id", id=batch_id)

        reclaim.reclaim_from_worker(database, "worker-1", AttemptOutcome.CRASHED, MAX_ATTEMPTS)

        assert batch_rows.get_batch(database, batch_id).status == "completed"
        batch_rows.assert_consistent(database, batch_id)


class TestDeletedBatches:
    def test_leave_leases_behind_that_hold_for_nothing_else(self, database: Database) -> None:
        insert_batch(database, 4, id="first")
        [stale] = claims.claim(database, claimant_for("worker-1"), 4, 4)
        delete.delete(database, "first", cancel=True)
        insert_batch(database, 4, id="second")
        [lease] = claims.claim(database, claimant_for("worker-2"), 4, 4)

        with database.write() as connection:
            assert claims.renew(connection, database.sql, [stale], 30.0) == [stale]
            assert claims.release(connection, [stale]) == []

        assert lease.slice_id != stale.slice_id, "an id is given out once"
        assert close(database, lease, range(4)).lost_slice_ids == frozenset()
        batch_rows.assert_consistent(database, "second")

    def test_a_lease_of_another_batch_holds_for_nothing_even_under_the_same_id_and_token(
        self, database: Database
    ) -> None:
        insert_batch(database, 4, id="only")
        [lease] = claims.claim(database, claimant_for(), 4, 4)
        stale = Lease(lease.slice_id, "another", lease.start_position, lease.size, lease.fencing_token, lease.attempts)

        with database.write() as connection:
            assert claims.renew(connection, database.sql, [stale], 30.0) == [stale]
            assert claims.release(connection, [stale]) == []

        assert batch_rows.get_slice(database, lease).state == "leased"


def test_the_largest_window_is_looked_up_whole(database: Database) -> None:
    """After a commit that was not heard of, the positions of a whole window are asked for at once."""
    batch_id = insert_batch(database, 4)
    [lease] = claims.claim(database, claimant_for(), 4, 4)
    answers = [JobResult(lease, index, JobOutcome.SUCCEEDED, "{}") for index in range(MANY)]
    with database.write() as connection:
        kept = commit._exclude_written(connection, database.sql, batch_id, answers)
        numbers = text(f"SELECT count(*) FROM jobs WHERE position {database.sql.in_numbers}")
        nobody = connection.scalar(numbers, {"numbers": ""})

    assert (len(kept), nobody) == (MANY, 0)


def test_a_close_that_was_committed_unheard_writes_nothing_twice(database: Database) -> None:
    batch_id = insert_batch(database, 8, slice_size=8)
    [lease] = claims.claim(database, claimant_for(), 8, 8)
    version = versions.register_version(database, MODEL_VERSION)
    first = [JobResult(lease, index, JobOutcome.SUCCEEDED, "{}") for index in range(3)]
    with database.write() as connection:
        commit.commit_results(connection, BatchCommit([lease], first, set(), version))

    result = close(database, lease, range(8), again=True)

    assert (result.results_written, result.final_status) == (5, "completed")
    batch_rows.assert_consistent(database, batch_id)
