"""Replays on both databases: only what was chosen, in the same place, and what it came to before is superseded."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from models.db import Database
from models.errors import NotFound, UsageError
from models.states import JobOutcome
from producer.batches.actions import retry
from producer.batches.actions.cancel import cancel
from producer.batches.actions.retry import RetrySelection
from producer.times import Deadline
from tests.factories.batch_rows import (
    claimant_for,
    execute,
    get_batch,
    get_results,
    get_slices,
    get_unanswered_jobs,
    insert_batch,
)
from worker.leasing import commit
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.leasing.leases import Lease

SLICE = 4


def run(database: Database, *failing: int, code: str = "model_error") -> list[int]:
    """Work through all that can be claimed; jobs at these positions fail. Returns the positions that were run."""
    ran: list[int] = []
    while leases := claims.claim(database, claimant_for(), 1000, SLICE):
        for lease in leases:
            jobs = get_unanswered_jobs(database, [lease])
            ran += [job.position for job in jobs]
            _close(database, lease, [_answer(lease, job.position, failing, code) for job in jobs])
    return ran


def _answer(lease: Lease, position: int, failing: tuple[int, ...], code: str) -> JobResult:
    if position in failing:
        tokens: dict[str, Any] = {"input_tokens": 6, "output_tokens": 4, "finish_reason": "length"}
        return JobResult(lease, position, JobOutcome.FAILED, error_code=code, error_message="No.", **tokens)
    return JobResult(lease, position, JobOutcome.SUCCEEDED, output="{}")


def _close(database: Database, lease: Lease, written: list[JobResult]) -> None:
    with database.write() as connection:
        commit.commit_results(connection, BatchCommit([lease], written, {lease.slice_id}))


def test_a_retry_of_one_job_reads_its_surroundings_alone(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "CHUNK_JOBS", 4)
    batch_id = insert_batch(database, 40)
    run(database, 3, 30, 31)
    chunks = []
    transact = Database.transact
    monkeypatch.setattr(Database, "transact", lambda *arguments: chunks.append(1) or transact(*arguments))

    result = retry.retry_jobs(database, batch_id, RetrySelection(positions=(30, 31)), SLICE)

    assert (result.jobs, len(chunks)) == (2, 1)
    assert run(database) == [30, 31]


def past(database: Database, batch_id: str) -> list[Any]:
    with database.read() as connection:
        query = text(
            "SELECT position, seq, status, error_code, input_tokens, output_tokens, finish_reason "
            "FROM superseded_results WHERE batch_id = :id ORDER BY seq"
        )
        return list(connection.execute(query, {"id": batch_id}))


def try_again(database: Database, batch_id: str, deadline: Deadline | None = None, **choice: Any) -> retry.RetryResult:
    return retry.retry_jobs(database, batch_id, RetrySelection(**choice), SLICE, deadline)


def test_only_what_failed_runs_again_and_in_its_place(database: Database) -> None:
    batch_id = insert_batch(database, 12)
    run(database, 1, 2, 9)

    again = try_again(database, batch_id)

    row = get_batch(database, batch_id)
    assert again.jobs == 3
    assert (row.status, row.succeeded, row.failed, row.completed_at) == ("in_progress", 9, 0, None)
    assert run(database) == [1, 2, 9]
    row = get_batch(database, batch_id)
    assert (row.status, row.succeeded, row.failed, row.last_seq) == ("completed", 12, 0, 15)
    assert [row.position for row in get_results(database, batch_id)] == list(range(12))
    superseded = past(database, batch_id)
    assert [(row.position, row.status, row.error_code) for row in superseded] == [
        (place, "failed", "model_error") for place in (1, 2, 9)
    ]
    assert {(row.input_tokens, row.output_tokens, row.finish_reason) for row in superseded} == {(6, 4, "length")}
    seqs = [row.seq for row in get_results(database, batch_id)] + [row.seq for row in superseded]
    assert sorted(seqs) == list(range(1, 16)), "a cursor sees the new rows behind all others"


def test_a_slice_of_a_retry_has_not_waited_since_the_batch_began(database: Database) -> None:
    batch_id = insert_batch(database, 4)
    execute(database, f"UPDATE batches SET in_progress_at = {database.sql.now}")
    [first] = claims.claim(database, claimant_for(), 1000, SLICE)
    with database.write() as connection:
        claims.release(connection, [first])
    run(database, 3)
    try_again(database, batch_id)

    [again] = claims.claim(database, claimant_for(), 1000, SLICE)

    assert first.queued_seconds is not None
    assert again.queued_seconds is None


def test_again_and_again_keeps_every_result(database: Database) -> None:
    batch_id = insert_batch(database, 4)
    run(database, 3)
    for _ in range(2):
        try_again(database, batch_id)
        run(database, 3, code="another")

    assert [(row.position, row.error_code) for row in past(database, batch_id)] == [(3, "model_error"), (3, "another")]
    assert get_results(database, batch_id)[3].error_code == "another"


def test_codes_choose(database: Database) -> None:
    batch_id = insert_batch(database, 8)
    run(database, 1, 2)
    execute(database, "UPDATE results SET error_code = 'forward_timeout' WHERE position = 2")

    assert try_again(database, batch_id, codes=("forward_timeout", "other")).jobs == 1

    assert run(database) == [2]


def test_positions_choose_and_raise_the_failure_limit_by_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "CHUNK_JOBS", 3)
    batch_id = insert_batch(database, 8, max_failures=2)
    run(database, 1, 2, 6)
    execute(database, "UPDATE batches SET status = 'failed', failed_at = created_at")

    with pytest.raises(UsageError, match="no failed jobs at these positions"):
        try_again(database, batch_id, positions=(0, 7))
    assert try_again(database, batch_id, positions=(6, 2, 5)).jobs == 2

    assert get_batch(database, batch_id).max_failures == 3  # one remains failed, and two more may
    assert sorted(run(database)) == [2, 6]


def test_what_was_cancelled_has_to_be_asked_for(database: Database) -> None:
    batch_id = insert_batch(database, 8)
    cancel(database, batch_id)

    with pytest.raises(
        UsageError, match="no failed jobs, so there is nothing to try again; 8 are cancelled: --status cancelled"
    ):
        try_again(database, batch_id)
    assert try_again(database, batch_id, outcomes=(JobOutcome.CANCELLED,)).jobs == 8

    assert run(database) == list(range(8))
    row = get_batch(database, batch_id)
    assert (row.status, row.cancelled, row.cancelled_at) == ("completed", 0, None)


def test_in_chunks_comes_to_the_same(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "CHUNK_JOBS", 3)
    batch_id = insert_batch(database, 40)
    failing = [place for place in range(40) if place % 3]
    run(database, *failing)

    assert try_again(database, batch_id).jobs == len(failing)

    assert sorted(run(database)) == failing
    assert get_batch(database, batch_id).status == "completed"


def test_while_it_runs_is_refused(database: Database) -> None:
    batch_id = insert_batch(database, 8)

    with pytest.raises(UsageError, match="wait until it has ended"):
        try_again(database, batch_id)


def test_rows_that_were_invalid_stay_failed(database: Database) -> None:
    batch_id = insert_batch(database, [{"text": "a"}, {"text": ""}])
    run(database, 0, 1, code="empty_text")
    execute(database, "UPDATE jobs SET invalid = true WHERE position = 1")

    assert try_again(database, batch_id).jobs == 1

    assert run(database) == [0]


@pytest.mark.parametrize(("deadline", "expires"), [(None, False), (Deadline(seconds=3600), True)])
def test_a_deadline_that_has_passed_is_dropped_or_renewed(
    database: Database, deadline: Deadline | None, expires: bool
) -> None:
    batch_id = insert_batch(database, 4)
    run(database, 1)
    execute(database, "UPDATE batches SET expires_at = created_at WHERE id = :id", id=batch_id)

    try_again(database, batch_id, deadline)

    expires_at = get_batch(database, batch_id).expires_at
    assert (expires_at is not None) is expires
    assert expires_at is None or abs(expires_at - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
    assert run(database) == [1]


def test_a_moment_as_deadline_is_kept_as_it_is(database: Database) -> None:
    batch_id = insert_batch(database, 4)
    run(database, 1)
    moment = datetime(2100, 1, 1, tzinfo=UTC)

    try_again(database, batch_id, Deadline(expires_at=moment))

    assert get_batch(database, batch_id).expires_at == moment


def test_slices_never_overlap_what_runs(database: Database) -> None:
    batch_id = insert_batch(database, 40)
    run(database, *range(0, 40, 5))
    try_again(database, batch_id)

    open_slices = [row for row in get_slices(database, batch_id) if row.state == "queued"]
    covered = [place for row in open_slices for place in range(row.start_position, row.start_position + row.size)]
    assert len(covered) == len(set(covered))


def test_of_what_is_not_there_is_said(database: Database) -> None:
    with pytest.raises(NotFound):
        try_again(database, "batch_unknown")


@pytest.mark.parametrize(
    ("outcomes", "allowed"),
    [((JobOutcome.CANCELLED,), 5), ((JobOutcome.FAILED,), 2), ((JobOutcome.FAILED, JobOutcome.CANCELLED), 2)],
)
def test_a_batch_that_burned_may_fail_as_often_again(
    database: Database, outcomes: tuple[JobOutcome, ...], allowed: int
) -> None:
    batch_id = insert_batch(database, 12, max_failures=2)
    first = claims.claim(database, claimant_for(), 1, SLICE)[0]
    _close(database, first, [_answer(first, place, (0, 1, 2), "model_error") for place in range(3)])
    assert get_batch(database, batch_id).error_code == "too_many_failures"

    try_again(database, batch_id, outcomes=outcomes)

    assert get_batch(database, batch_id).max_failures == allowed
    run(database)
    assert get_batch(database, batch_id).status == "completed"


def test_rows_that_guards_stopped_are_read_again_and_the_advice_says_so(database: Database) -> None:
    batch_id = insert_batch(database, 8)
    run(database, 1, 2, code="guard_blocked")

    again = try_again(database, batch_id, codes=("guard_blocked",))

    assert again.jobs == 2
    assert again.advice is not None
    assert again.advice.startswith("guards had stopped 2 of them and will again, unless a guard was changed")
    assert f"batchmill submit --repair {batch_id} FILE" in again.advice
    assert run(database, 1) == [1, 2]
    assert try_again(database, batch_id).advice is None
