"""Reclaim requeues, splits or dead-letters the slices of workers that are gone. Any process may do it at any time.

A supervisor that saw the exit reports how the worker ended. For a worker that disappeared, the only sign is that its
leases expire.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, text

from models.db import Database
from models.dialects.fragments import SqlFragments
from models.lifecycle import slices, termination
from models.lifecycle.termination import lock_batch
from models.states import AttemptOutcome, BatchStatus, JobOutcome, Termination
from worker.leasing import activity, commit
from worker.leasing.job_results import BatchCommit, JobResult
from worker.leasing.leases import Lease
from worker.leasing.quarantine import Recovery, decide_recovery, is_crash_loop
from worker.leasing.usage import ComputedWork

# The slices to reclaim: those with expired leases, or all of one worker.
LEASE_EXPIRED = "state = 'leased' AND lease_expires_at < {now}"
LEASED_BY_WORKER = "state = 'leased' AND worker_id = :worker_id"

SELECT_BATCHES = "SELECT DISTINCT batch_id FROM slices WHERE {which} ORDER BY batch_id"

# The error of a dead-lettered job, by the outcome of its last attempt.
DEAD_LETTER_ERRORS = {
    AttemptOutcome.HUNG: (
        "forward_timeout",
        "the model, a logits processor, or the model of a guard, repeatedly exceeded its time limit on this input",
    ),
    AttemptOutcome.CRASHED: ("worker_crashed", "workers crashed while they ran this input"),
}
LEASE_EXPIRED_ERROR = ("worker_crashed", "workers disappeared while they ran this input")
DEAD_LETTER_CODES = ", ".join(f"'{code}'" for code in sorted({code for code, _ in DEAD_LETTER_ERRORS.values()}))

CRASH_LOOP = "crash_loop"
CRASH_LOOP_MESSAGE = (
    "{count} inputs in a row ended or hung their workers, and none was answered: the model can't run this batch here; "
    "see the workers' logs, then: batchmill retry {batch_id}"
)

COUNT_DEAD_LETTERS = f"""
SELECT b.succeeded - b.reused AS answered,
       (SELECT count(*) FROM results r
        WHERE r.batch_id = b.id AND r.error_code IN ({DEAD_LETTER_CODES})) AS dead_lettered
FROM batches b WHERE b.id = :batch_id
"""  # noqa: S608


@dataclass(slots=True)
class ReclaimResult:
    """The reclaimed slices' ids by their treatment, and the number of claimable ones by pipeline.

    given_up: the dead-lettered jobs of a transaction, to be counted at its end
    """

    requeued: list[int] = field(default_factory=list)
    split: list[int] = field(default_factory=list)
    dead_lettered: list[int] = field(default_factory=list)
    claimable: Counter[str] = field(default_factory=Counter)
    given_up: list[ComputedWork] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.requeued or self.split or self.dead_lettered)

    def add(self, other: "ReclaimResult") -> None:
        """Add the result of another transaction."""
        self.requeued += other.requeued
        self.split += other.split
        self.dead_lettered += other.dead_lettered
        self.claimable += other.claimable


def reclaim_expired(database: Database, max_attempts: int) -> ReclaimResult:
    """Reclaim every slice with an expired lease; without any, it takes no lock."""
    return _reclaim(
        database, LEASE_EXPIRED.format(now=database.sql.now), {}, AttemptOutcome.LEASE_EXPIRED, max_attempts
    )


def reclaim_from_worker(
    database: Database, worker_id: str, attempt_outcome: AttemptOutcome, max_attempts: int
) -> ReclaimResult:
    """Reclaim every slice of a worker that is known to be gone."""
    return _reclaim(database, LEASED_BY_WORKER, {"worker_id": worker_id}, attempt_outcome, max_attempts)


def _reclaim(
    database: Database, lease_condition: str, params: dict[str, Any], attempt_outcome: AttemptOutcome, max_attempts: int
) -> ReclaimResult:
    with database.read() as connection:
        batch_ids: Sequence[str] = connection.scalars(text(SELECT_BATCHES.format(which=lease_condition)), params).all()
    result = ReclaimResult()
    for batch_id in batch_ids:
        reclaim_batch = partial(
            _reclaim_batch,
            sql=database.sql,
            batch_id=batch_id,
            lease_condition=lease_condition,
            params=params,
            attempt_outcome=attempt_outcome,
            max_attempts=max_attempts,
        )
        result.add(database.transact(reclaim_batch))
    return result


def _reclaim_batch(
    connection: Connection,
    *,
    sql: SqlFragments,
    batch_id: str,
    lease_condition: str,
    params: dict[str, Any],
    attempt_outcome: AttemptOutcome,
    max_attempts: int,
) -> ReclaimResult:
    result = ReclaimResult()
    batch = lock_batch(connection, sql, batch_id)  # before its slices, as everywhere
    if batch is None or batch.status != BatchStatus.IN_PROGRESS:
        return result
    has_ended = any(
        _recover_slice(connection, sql, row, attempt_outcome, batch.max_attempts or max_attempts, result)
        for row in slices.lock_leased(connection, sql, batch_id, lease_condition, params)
    )
    activity.add_activity(connection, result.given_up, activity.GIVEN_UP)
    if has_ended:  # which has revoked all other slices of the batch
        return ReclaimResult(dead_lettered=result.dead_lettered)
    result.claimable[batch.pipeline] += len(result.requeued) + len(result.split)
    return result


def _recover_slice(
    connection: Connection,
    sql: SqlFragments,
    row: Row[Any],
    attempt_outcome: AttemptOutcome,
    max_attempts: int,
    result: ReclaimResult,
) -> bool:
    """Requeue, split or dead-letter one slice; returns whether that has ended the batch."""
    is_crash = attempt_outcome in (AttemptOutcome.CRASHED, AttemptOutcome.HUNG)
    crashes, lost_leases = row.crashes + is_crash, row.lost_leases + (not is_crash)
    recovery = decide_recovery(row.size, crashes, lost_leases, max_attempts)
    if recovery is Recovery.DEAD_LETTER:
        result.dead_lettered.append(row.slice_id)
        return _dead_letter(connection, sql, row, attempt_outcome, crashes + lost_leases, result)
    if recovery is Recovery.SPLIT:
        if slices.split(connection, sql, row, attempt_outcome, crashes=crashes, lost_leases=lost_leases):
            result.split.append(row.slice_id)
    elif slices.requeue(connection, row, attempt_outcome, crashes=crashes, lost_leases=lost_leases):
        result.requeued.append(row.slice_id)
    return False


def _dead_letter(
    connection: Connection,
    sql: SqlFragments,
    row: Row[Any],
    attempt_outcome: AttemptOutcome,
    failure_count: int,
    result: ReclaimResult,
) -> bool:
    """Fail a job after its last attempt, under the holder's fencing token, so that a holder that resumes has lost.

    Returns whether the batch has ended, with its last result or with one failure too many.
    """
    code, cause = DEAD_LETTER_ERRORS.get(attempt_outcome, LEASE_EXPIRED_ERROR)
    lease = Lease(row.slice_id, row.batch_id, row.start_position, row.size, row.fencing_token, row.attempts)
    message = f"{cause} ({failure_count} times); inspect it, then: batchmill retry {row.batch_id}"
    failure = JobResult(lease, row.start_position, JobOutcome.FAILED, error_code=code, error_message=message)
    planned = BatchCommit([lease], [failure], {lease.slice_id}, attempt_outcome=attempt_outcome)
    commit_result = commit.commit_results(connection, planned)
    if commit_result.work is not None:
        result.given_up.append(commit_result.work)
    return commit_result.final_status is not None or _end_crash_loop(connection, sql, row.batch_id)


def _end_crash_loop(connection: Connection, sql: SqlFragments, batch_id: str) -> bool:
    """End a batch, whose row is locked, if all its inputs so far crashed workers; returns whether it ended."""
    counts = connection.execute(text(COUNT_DEAD_LETTERS), {"batch_id": batch_id}).one()
    if not is_crash_loop(counts.dead_lettered, counts.answered):
        return False
    message = CRASH_LOOP_MESSAGE.format(count=counts.dead_lettered, batch_id=batch_id)
    termination.begin_termination(connection, sql, batch_id, Termination.FAILED, CRASH_LOOP, message)
    termination.close_chunk(connection, sql, batch_id)
    return True
