"""What dead workers leave behind: their slices are queued again, split, or closed. Any process may do it, at any time.

Who watched a process die says how; of one that fell silent only its leases tell, when they run out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, text

from models.db import Database, SqlFragments
from models.lifecycle import slices, termination
from models.lifecycle.termination import lock_batch
from models.states import AttemptOutcome, BatchStatus, JobOutcome, Termination
from worker.leasing import commit
from worker.leasing.commit import JobResult
from worker.leasing.leases import Lease
from worker.leasing.quarantine import Recovery, decide_recovery, is_crash_loop

# Whose leases: those that ran out, or all of one worker's.
LEASE_EXPIRED = "state = 'leased' AND lease_expires_at < {now}"
LEASED_BY_WORKER = "state = 'leased' AND worker_id = :worker_id"

SELECT_BATCHES = "SELECT DISTINCT batch_id FROM slices WHERE {which} ORDER BY batch_id"

# The code of a job that has had its last attempt, by how that one ended.
DEAD_LETTER_ERRORS = {
    AttemptOutcome.HUNG: ("timed_out", "the device did not come back from this input in time, again and again"),
    AttemptOutcome.CRASHED: ("worker_died", "workers died while they ran this input"),
}
DEAD_LETTER_CODES = ", ".join(f"'{code}'" for code in sorted({code for code, _ in DEAD_LETTER_ERRORS.values()}))

# A batch that ends because of them.
CRASH_LOOP = "crash_loop"
CRASH_LOOP_MESSAGE = (
    "{count} inputs in a row ended or hung their workers, and none was answered: the model can't do this batch here; "
    "see the workers' logs, then: batchmill retry {batch_id}"
)

COUNT_DEAD_LETTERS = f"""
SELECT b.succeeded - b.reused AS answered,
       (SELECT count(*) FROM results r WHERE r.batch_id = b.id AND r.error_code IN ({DEAD_LETTER_CODES})) AS buried
FROM batches b WHERE b.id = :batch_id
"""  # noqa: S608

LEASE_EXPIRED_ERROR = ("worker_died", "workers fell silent while they ran this input")


@dataclass(slots=True)
class ReclaimResult:
    """Slices by what became of them; `bells` are those to ring for, by pipeline."""

    requeued: list[int] = field(default_factory=list)
    split: list[int] = field(default_factory=list)
    dead_lettered: list[int] = field(default_factory=list)
    wakeups: dict[str, list[int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.requeued or self.split or self.dead_lettered)

    def add(self, other: "ReclaimResult") -> None:
        """Take in what another transaction did."""
        self.requeued += other.requeued
        self.split += other.split
        self.dead_lettered += other.dead_lettered
        for pipeline, slice_ids in other.wakeups.items():
            self.wakeups.setdefault(pipeline, []).extend(slice_ids)


def reclaim_expired(database: Database, max_attempts: int) -> ReclaimResult:
    """See to every slice whose lease ran out; takes no lock when there is none."""
    return _reclaim(
        database, LEASE_EXPIRED.format(now=database.sql.now), {}, AttemptOutcome.LEASE_EXPIRED, max_attempts
    )


def reclaim_from_worker(
    database: Database, worker_id: str, attempt_outcome: AttemptOutcome, max_attempts: int
) -> ReclaimResult:
    """See to every slice of a worker that is known to be dead."""
    return _reclaim(database, LEASED_BY_WORKER, {"worker_id": worker_id}, attempt_outcome, max_attempts)


def _reclaim(
    database: Database, lease_condition: str, params: dict[str, Any], attempt_outcome: AttemptOutcome, max_attempts: int
) -> ReclaimResult:
    with database.read() as connection:
        batch_ids: Sequence[str] = connection.scalars(text(SELECT_BATCHES.format(which=lease_condition)), params).all()
    done = ReclaimResult()
    for batch_id in batch_ids:
        work = partial(
            _reclaim_batch,
            sql=database.sql,
            batch_id=batch_id,
            lease_condition=lease_condition,
            params=params,
            attempt_outcome=attempt_outcome,
            max_attempts=max_attempts,
        )
        done.add(database.transact(work))
    return done


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
    done = ReclaimResult()
    batch = lock_batch(connection, sql, batch_id)  # before its slices, as everywhere
    if batch is None or batch.status != BatchStatus.IN_PROGRESS:
        return done
    for row in slices.lock_leased(connection, sql, batch_id, lease_condition, params):
        if _recover_slice(connection, sql, row, attempt_outcome, batch.max_attempts or max_attempts, done):
            return ReclaimResult(
                dead_lettered=done.dead_lettered
            )  # all other slices were taken away with the batch's end
    if done.requeued or done.split:
        done.wakeups[batch.pipeline] = sorted(done.requeued + done.split)
    return done


def _recover_slice(
    connection: Connection,
    sql: SqlFragments,
    row: Row[Any],
    attempt_outcome: AttemptOutcome,
    max_attempts: int,
    result: ReclaimResult,
) -> bool:
    """Do what the verdict says; returns whether the batch has ended by that."""
    own = attempt_outcome in (AttemptOutcome.CRASHED, AttemptOutcome.HUNG)
    deaths, lapses = row.deaths + own, row.lapses + (not own)
    what = decide_recovery(row.size, deaths, lapses, max_attempts)
    if what is Recovery.DEAD_LETTER:
        result.dead_lettered.append(row.slice_id)
        return _dead_letter(connection, sql, row, attempt_outcome, deaths + lapses)
    if what is Recovery.SPLIT:
        if slices.split(connection, sql, row, attempt_outcome, crashes=deaths, lost_leases=lapses):
            result.split.append(row.slice_id)
    elif slices.requeue(connection, row, attempt_outcome, crashes=deaths, lost_leases=lapses):
        result.requeued.append(row.slice_id)
    return False


def _dead_letter(
    connection: Connection, sql: SqlFragments, row: Row[Any], attempt_outcome: AttemptOutcome, failure_count: int
) -> bool:
    """Close a job that has had its last attempt, under the dead holder's own fence: should it wake, it has lost.

    Returns whether the batch has ended, by its last answer or by one failure too many.
    """
    code, words = DEAD_LETTER_ERRORS.get(attempt_outcome, LEASE_EXPIRED_ERROR)
    lease = Lease(row.slice_id, row.batch_id, row.first, row.size, row.token, row.attempts)
    message = f"{words} ({failure_count} times); look at it, then: batchmill retry {row.batch_id}"
    answer = JobResult(lease, row.first, JobOutcome.FAILED, error_code=code, error_message=message)
    closed = commit.commit_results(
        connection, sql, [answer], [lease], {lease.slice_id}, version_id=None, attempt_outcome=attempt_outcome
    )
    return closed.final_status is not None or _end_crash_loop(connection, sql, row.batch_id)


def _end_crash_loop(connection: Connection, sql: SqlFragments, batch_id: str) -> bool:
    """End a batch, whose row is locked, where every input so far has ended its worker; returns whether that is so."""
    counts = connection.execute(text(COUNT_DEAD_LETTERS), {"batch_id": batch_id}).one()
    if not is_crash_loop(counts.buried, counts.answered):
        return False
    message = CRASH_LOOP_MESSAGE.format(count=counts.buried, batch_id=batch_id)
    termination.begin_termination(connection, sql, batch_id, Termination.FAILED, CRASH_LOOP, message)
    termination.close_chunk(connection, sql, batch_id)
    return True
