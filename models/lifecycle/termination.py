"""Batches end here: complete with their last result, or terminated because they are cancelled, expire or fail.

A short transaction that terminates a batch first revokes all slices by new fencing tokens, so that workers can no
longer write results. Each unanswered job then gets the outcome of the termination, in chunks, so that other writers
need not wait long. The batch records its final status from the start, so any process can continue if the first one
crashes.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from sqlalchemy import Connection, Row, text

from models.db import Database
from models.dialects.fragments import SqlFragments
from models.lifecycle import batch_events, slices
from models.states import BatchStatus, Termination

CHUNK_JOBS = 20_000

TOO_MANY_FAILURES = "too_many_failures"  # error code of such a batch, and of its jobs that were not run

# Lock order, wherever a batch's state changes: the batch's row first, then its slices by id.
LOCK_BATCH = """
SELECT pipeline, tenant, status, terminating_as, last_seq, total, max_attempts, error_code, error_message, ingesting,
       succeeded + failed + cancelled + expired AS ended
FROM batches WHERE id = :batch_id {for_update}
"""

# The column has a unique index, so this update needs the strongest row lock; see `lock_batch`.
FREE_IDEMPOTENCY_KEY = "UPDATE batches SET idempotency_key = NULL WHERE id = :batch_id"

BEGIN_TERMINATION = """
UPDATE batches SET status = 'cancelling', terminating_as = :terminating_as, error_code = :code,
       error_message = :message, cancelling_at = CASE WHEN :terminating_as = 'cancelled' THEN {now} END
WHERE id = :batch_id
"""

# A batch that is still being ingested ends with the jobs that it has so far; some of those may have failed.
RECOUNT_JOBS = """
UPDATE batches SET total = (SELECT count(*) FROM jobs j WHERE j.batch_id = :batch_id),
       failed = (SELECT count(*) FROM results r WHERE r.batch_id = :batch_id),
       last_seq = (SELECT coalesce(max(r.seq), 0) FROM results r WHERE r.batch_id = :batch_id)
WHERE id = :batch_id AND status = 'validating'
"""

# Bounded on both sides, so that a chunk reads only its range of positions in a batch of any size.
CLOSE_JOBS = f"""
INSERT INTO results (batch_id, position, seq, status, error_code, error_message, truncated, attempts)
SELECT j.batch_id, j.position, :last_seq + row_number() OVER (ORDER BY j.position), :outcome, :code, :message, :no, 0
FROM jobs j
WHERE j.batch_id = :batch_id AND j.position > :after AND j.position <= :upto
  AND {slices.IS_UNANSWERED}
"""  # noqa: S608

SELECT_LAST_POSITION = "SELECT coalesce(max(position), -1) FROM jobs WHERE batch_id = :batch_id"

SELECT_OPEN_JOB = f"SELECT 1 FROM jobs j WHERE j.batch_id = :batch_id AND {slices.IS_UNANSWERED} LIMIT 1"  # noqa: S608

ADD_TO_COUNTERS = "UPDATE batches SET {column} = {column} + :jobs, last_seq = last_seq + :jobs WHERE id = :batch_id"

END_BATCH = """
UPDATE batches SET status = :status, terminating_as = NULL, {status}_at = {now},
       error_code = coalesce(:code, error_code), error_message = coalesce(:message, error_message)
WHERE id = :batch_id RETURNING webhook_url
"""

# For the RETURNING clause of a statement that counts jobs: the columns that `end_if_done` needs.
PROGRESS_COLUMNS = "total, failed, max_failures, ingesting, succeeded + failed + cancelled + expired AS ended"


@dataclass(frozen=True, slots=True)
class ClosingProgress:
    """The progress of a termination after one chunk, or several.

    closed_jobs: number of jobs closed by them
    last_position: the position to continue after
    has_ended: whether the batch has ended
    """

    closed_jobs: int
    last_position: int
    has_ended: bool


def lock_batch(connection: Connection, sql: SqlFragments, batch_id: str, *, frees_key: bool = False) -> Row[Any] | None:
    """Lock a batch's row for this transaction and return its status and counters; None if there is no such batch.

    frees_key: whether the transaction will clear the idempotency key; a stronger lock taken later could deadlock
    """
    query = text(LOCK_BATCH.format(for_update=sql.for_key_update if frees_key else sql.for_update))
    return connection.execute(query, {"batch_id": batch_id}).one_or_none()


def terminate(
    database: Database,
    batch_id: str,
    reason: Termination,
    code: str | None,
    message: str | None,
    *,
    from_statuses: Collection[BatchStatus] = (BatchStatus.IN_PROGRESS,),
    only_while_ingesting: bool = False,
    frees_key: bool = False,
) -> int | None:
    """Begin to terminate a batch and close the first chunk of its unanswered jobs, in one transaction.

    reason: the reason for the termination
    code, message: the error to record on the batch, None = no error
    from_statuses: the statuses in which the batch may be
    only_while_ingesting: terminate the batch only if it is still being ingested
    frees_key: clear the idempotency key, so that the same submission creates a new batch

    Returns the number of closed jobs, or None if the batch was in another status. `finish_termination` closes the rest.
    """

    def work(connection: Connection) -> int | None:
        batch = lock_batch(connection, database.sql, batch_id, frees_key=frees_key)
        if batch is None or batch.status not in from_statuses or (only_while_ingesting and not batch.ingesting):
            return None
        if frees_key:
            connection.execute(text(FREE_IDEMPOTENCY_KEY), {"batch_id": batch_id})
        begin_termination(connection, database.sql, batch_id, reason, code, message)
        return close_chunk(connection, database.sql, batch_id).closed_jobs

    return database.transact(work)


def end_if_done(connection: Connection, sql: SqlFragments, batch_id: str, progress: Row[Any]) -> BatchStatus | None:
    """End a batch in progress that is fully answered, or has more failed jobs than it allows; None if it goes on.

    progress: the PROGRESS_COLUMNS of the batch's row, which is locked
    """
    code, message = None, None
    if progress.max_failures is not None and progress.failed > progress.max_failures:
        code = TOO_MANY_FAILURES
        message = f"{progress.failed:,} jobs failed, more than the {progress.max_failures:,} that this batch allows"
    if progress.ended == progress.total and not progress.ingesting:
        status = BatchStatus.COMPLETED if code is None else BatchStatus.FAILED
        _end_batch(connection, sql, batch_id, status, code, message)
        return status
    if code is None:
        return None
    begin_termination(connection, sql, batch_id, Termination.FAILURE_LIMIT, code, message)
    close_chunk(connection, sql, batch_id)
    return BatchStatus.FAILED


def begin_termination(
    connection: Connection, sql: SqlFragments, batch_id: str, reason: Termination, code: str | None, message: str | None
) -> None:
    """Revoke all slices of a batch that has not ended, and whose row is locked.

    `close_next_chunk` closes the unanswered jobs afterwards.
    """
    params = {"batch_id": batch_id, "terminating_as": reason.value, "code": code, "message": message}
    slices.end_open_slices(connection, sql, batch_id, code)
    connection.execute(text(RECOUNT_JOBS), params)
    connection.execute(text(BEGIN_TERMINATION.format(now=sql.now)), params)


def close_next_chunk(database: Database, batch_id: str, after: int = -1) -> ClosingProgress:
    """Close the next chunk of unanswered jobs after the position `after`; no-op unless the batch is `cancelling`."""
    return database.transact(lambda connection: close_chunk(connection, database.sql, batch_id, after))


def finish_termination(
    database: Database, batch_id: str, max_chunks: int | None = None, after: int = -1
) -> ClosingProgress:
    """Close all unanswered jobs, or those of at most `max_chunks` chunks of positions behind `after`.

    Returns the number of jobs that were closed, and the position from which the next call continues.
    """
    jobs, step = 0, ClosingProgress(0, after, has_ended=False)
    for _ in count() if max_chunks is None else range(max_chunks):
        step = close_next_chunk(database, batch_id, step.last_position)
        jobs += step.closed_jobs
        if step.has_ended:
            break
    return replace(step, closed_jobs=jobs)


def close_chunk(connection: Connection, sql: SqlFragments, batch_id: str, after: int = -1) -> ClosingProgress:
    """Close the next chunk of unanswered jobs inside the caller's transaction."""
    batch = lock_batch(connection, sql, batch_id)
    if batch is None or batch.status != BatchStatus.CANCELLING:
        return ClosingProgress(0, after, has_ended=True)
    termination = Termination(batch.terminating_as)
    code, message = _error_for(termination, batch)
    upto = after + CHUNK_JOBS
    jobs = connection.execute(
        text(CLOSE_JOBS),
        {
            "batch_id": batch_id,
            "after": after,
            "upto": upto,
            "last_seq": batch.last_seq,
            "outcome": termination.outcome.value,
            "code": code,
            "message": message,
            "no": False,
        },
    ).rowcount
    if jobs:
        counter = termination.outcome.value
        connection.execute(text(ADD_TO_COUNTERS.format(column=counter)), {"batch_id": batch_id, "jobs": jobs})
    if batch.ended + jobs < batch.total:
        if upto < connection.execute(text(SELECT_LAST_POSITION), {"batch_id": batch_id}).scalar_one():
            return ClosingProgress(jobs, upto, has_ended=False)
        # Earlier jobs may be unanswered again, if the batch was replayed and terminated between two chunks.
        if connection.scalar(text(SELECT_OPEN_JOB), {"batch_id": batch_id}):
            return ClosingProgress(jobs, -1, has_ended=False)
    # The batch keeps its planned status even if all of its jobs have ended normally in the meantime.
    _end_batch(connection, sql, batch_id, termination.status)
    return ClosingProgress(jobs, upto, has_ended=True)


def _end_batch(
    connection: Connection,
    sql: SqlFragments,
    batch_id: str,
    status: BatchStatus,
    code: str | None = None,
    message: str | None = None,
) -> None:
    query = text(END_BATCH.format(status=status.value, now=sql.now))
    params = {"batch_id": batch_id, "status": status.value, "code": code, "message": message}
    if connection.execute(query, params).scalar_one_or_none() is not None:  # it has a webhook
        batch_events.record_end(connection, sql, batch_id, status)


def _error_for(reason: Termination, batch: Row[Any]) -> tuple[str, str]:
    """The error code and message of each closed job."""
    if reason is Termination.CANCELLED:
        return "cancelled", "the batch was cancelled before this was answered"
    if reason is Termination.EXPIRED:
        return "deadline_exceeded", "the batch's deadline passed before this was answered"
    return batch.error_code, batch.error_message
