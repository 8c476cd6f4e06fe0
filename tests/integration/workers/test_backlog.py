"""The backlog that autoscalers read is never zero while any work is open, whatever workers do meanwhile."""

import threading

import pytest

from models.db import Database
from models.lifecycle import termination
from models.states import JobOutcome, Termination
from producer.workers.backlog import count_backlogs
from tests.factories.batch_rows import claimant_for, execute, expire_leases, insert_batch
from tests.servers import WAIT_TIMEOUT_SECONDS
from worker.leasing import reclaim
from worker.leasing.claiming import claims
from worker.leasing.commit import commit_results
from worker.leasing.job_results import BatchCommit, JobResult

SLICE = 4


def answer(database: Database, max_jobs: int = SLICE) -> bool:
    """Claim slices and answer them, as a worker does; False if there were none."""
    leases = claims.claim(database, claimant_for(), max_jobs, SLICE)
    for lease in leases:
        results = [
            JobResult(lease, lease.start_position + place, JobOutcome.SUCCEEDED, output="{}")
            for place in range(lease.size)
        ]
        with database.write() as connection:
            commit_results(connection, BatchCommit([lease], results, {lease.slice_id}))
    return bool(leases)


def test_counts_queued_and_leased_slices_of_each_pipeline(database: Database) -> None:
    insert_batch(database, 12)
    insert_batch(database, 8)
    insert_batch(database, 4, pipeline="other")
    claims.claim(database, claimant_for(), 8, SLICE)

    backlogs = count_backlogs(database)

    assert list(backlogs) == ["other", "reviews"]
    other, reviews = backlogs.values()
    assert (other.queued_slices, other.leased_slices, other.unanswered_jobs) == (1, 0, 4)
    assert (reviews.queued_slices, reviews.leased_slices, reviews.unanswered_jobs, reviews.open_batches) == (
        3,
        2,
        20,
        2,
    )
    assert reviews.oldest_created_at < other.oldest_created_at
    assert reviews.oldest_age_seconds > 86_400


@pytest.mark.parametrize("status", ["validating", "cancelling"])
def test_has_a_row_while_a_batch_has_no_slices_but_needs_a_process(database: Database, status: str) -> None:
    insert_batch(database, 4, status=status, total=0)
    execute(database, "DELETE FROM slices")

    [backlog] = count_backlogs(database).values()

    assert (backlog.queued_slices + backlog.leased_slices, backlog.open_batches) == (0, 1)


def test_has_no_row_once_all_has_ended(database: Database) -> None:
    ended = insert_batch(database, 8)
    cancelled = insert_batch(database, 8)
    while answer(database):
        pass
    assert count_backlogs(database) == {}
    execute(database, "UPDATE batches SET status = 'in_progress', succeeded = 0 WHERE id = :id", id=cancelled)
    assert [backlog.unanswered_jobs for backlog in count_backlogs(database).values()] == [8]
    execute(database, "DELETE FROM results WHERE batch_id = :id", id=cancelled)
    termination.terminate(database, cancelled, Termination.CANCELLED, None, None)
    termination.finish_termination(database, cancelled, 10)

    assert count_backlogs(database) == {}, ended


def test_is_the_same_for_the_only_tenant(database: Database) -> None:
    insert_batch(database, 12)
    insert_batch(database, 8, status="cancelling")
    claims.claim(database, claimant_for(), 4, SLICE)

    everything, own = count_backlogs(database)["reviews"], count_backlogs(database, "default")["reviews"]

    assert everything.as_dict() == own.as_dict()
    assert count_backlogs(database, "another") == {}


def test_never_misses_leased_work(database: Database) -> None:
    """A worker answers, lets leases expire and gets them back, while another thread looks."""
    insert_batch(database, 60)
    looked, done = threading.Semaphore(0), threading.Event()

    def work() -> None:
        try:
            while leases := claims.claim(database, claimant_for("slow"), SLICE, SLICE):
                assert looked.acquire(timeout=WAIT_TIMEOUT_SECONDS)  # for each round there is a look
                expire_leases(database, *leases)
                reclaim.reclaim_expired(database, 100)
                execute(database, "UPDATE slices SET lost_leases = 0")
                answer(database)
        finally:
            done.set()

    worker = threading.Thread(target=work)
    worker.start()
    looks = []
    while not done.is_set():
        looks.append(list(count_backlogs(database).values()))
        looked.release()
    worker.join()

    assert count_backlogs(database) == {}
    open_looks = [look[0] for look in looks if look]
    assert len(open_looks) >= 2
    assert [bool(look) for look in looks] == sorted((bool(look) for look in looks), reverse=True), "empty at the end"
    for backlog in open_looks:
        assert backlog.queued_slices + backlog.leased_slices >= backlog.unanswered_jobs / SLICE > 0
