"""Early ends: a batch is cancelled, expires, fails or burns, and every job that is open gets that outcome.

It begins with one short transaction that takes all slices away, under new tokens: whoever computes for the batch has
lost. What is open is then closed in chunks, so that other writers get their turn. Should whoever does it die half-way,
anybody can go on: the batch says what it will be.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import count
from typing import Any

from sqlalchemy import Connection, Row, text

from models.db import Database, SqlFragments
from models.lifecycle import slices
from models.states import BatchStatus, Termination

CHUNK_JOBS = 20_000

TOO_MANY_FAILURES = "too_many_failures"  # the code of a batch that burned, and of its jobs that were not tried

# Lock order, wherever a batch's state changes: the batch's row first, then its slices by id.
LOCK_BATCH = """
SELECT pipeline, status, ending, last_seq, total, failed, max_failures, max_attempts, error_code, error_message,
       reading, succeeded + failed + cancelled + expired AS ended
FROM batches WHERE id = :batch_id {for_update}
"""

# The column has a unique index, so this needs the row's strongest lock: see `lock_batch`.
FREE_IDEMPOTENCY_KEY = "UPDATE batches SET idempotency_key = NULL WHERE id = :batch_id"

BEGIN_TERMINATION = """
UPDATE batches SET status = 'cancelling', ending = :ending, error_code = :code, error_message = :message,
       cancelling_at = CASE WHEN :ending = 'cancelled' THEN {now} END
WHERE id = :batch_id
"""

# A batch that is still being read in ends with the jobs that it has, of which some may have failed already.
RECOUNT_JOBS = """
UPDATE batches SET total = (SELECT count(*) FROM jobs j WHERE j.batch_id = :batch_id),
       failed = (SELECT count(*) FROM results r WHERE r.batch_id = :batch_id),
       last_seq = (SELECT coalesce(max(r.seq), 0) FROM results r WHERE r.batch_id = :batch_id)
WHERE id = :batch_id AND status = 'validating'
"""

# Bounded on both sides: a chunk reads its own places, however many jobs have ended before or are open behind it.
CLOSE_JOBS = """
INSERT INTO results (batch_id, position, seq, status, error_code, error_message, truncated, attempts)
SELECT j.batch_id, j.position, :last_seq + row_number() OVER (ORDER BY j.position), :outcome, :code, :message, :no, 0
FROM jobs j
WHERE j.batch_id = :batch_id AND j.position > :after AND j.position <= :upto
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position)
"""

SELECT_LAST_POSITION = "SELECT coalesce(max(position), -1) FROM jobs WHERE batch_id = :batch_id"

SELECT_OPEN_JOB = """
SELECT 1 FROM jobs j WHERE j.batch_id = :batch_id
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position) LIMIT 1
"""

ADD_TO_COUNTERS = "UPDATE batches SET {column} = {column} + :jobs, last_seq = last_seq + :jobs WHERE id = :batch_id"

# A batch whose jobs all ended by themselves in the meantime is what it was going to be all the same.
FINISH_BATCH = "UPDATE batches SET status = :status, ending = NULL, {status}_at = {now} WHERE id = :batch_id"


@dataclass(frozen=True, slots=True)
class ClosingProgress:
    """How far the closing has come: jobs closed by this step, the position reached, and whether the batch has ended."""

    closed_jobs: int
    last_position: int
    has_ended: bool


def lock_batch(connection: Connection, sql: SqlFragments, batch_id: str, *, frees_key: bool = False) -> Row[Any] | None:
    """Take the batch's row for this transaction: its status, last_seq, total, how many jobs have ended, and so on.

    Who will free its idempotency key says so now: a lock that grows after the slices were locked is a deadlock.
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
    """End a batch that is in one of these states, and close the first chunk of what is open, all in one transaction.

    With `unread` only one that is in progress while more of it is to be read in. With `frees_key` the same submission
    is another batch from now on.

    Returns how many jobs that were; None where the batch was in another state, and is as it was. `finish` closes more.
    """

    def work(connection: Connection) -> int | None:
        batch = lock_batch(connection, database.sql, batch_id, frees_key=frees_key)
        if batch is None or batch.status not in from_statuses or (only_while_ingesting and not batch.reading):
            return None
        if frees_key:
            connection.execute(text(FREE_IDEMPOTENCY_KEY), {"batch_id": batch_id})
        begin_termination(connection, database.sql, batch_id, reason, code, message)
        return close_chunk(connection, database.sql, batch_id).closed_jobs

    return database.transact(work)


def begin_termination(
    connection: Connection, sql: SqlFragments, batch_id: str, reason: Termination, code: str | None, message: str | None
) -> None:
    """Take a batch's slices away, whose row is locked and which has not ended; `run_once` closes what is open."""
    named = {"batch_id": batch_id, "ending": reason.value, "code": code, "message": message}
    slices.end_open_slices(connection, sql, batch_id, code)
    connection.execute(text(RECOUNT_JOBS), named)
    connection.execute(text(BEGIN_TERMINATION.format(now=sql.now)), named)


def close_next_chunk(database: Database, batch_id: str, after: int = -1) -> ClosingProgress:
    """Close the next chunk of open jobs behind the position `after`; nothing where the batch is not `cancelling`."""
    return database.transact(lambda connection: close_chunk(connection, database.sql, batch_id, after))


def finish_termination(database: Database, batch_id: str, max_chunks: int | None = None) -> int:
    """Close what is open, or so many chunks of it; returns how many jobs that were."""
    jobs, after = 0, -1
    for _ in count() if max_chunks is None else range(max_chunks):
        step = close_next_chunk(database, batch_id, after)
        jobs, after = jobs + step.closed_jobs, step.last_position
        if step.has_ended:
            break
    return jobs


def close_chunk(connection: Connection, sql: SqlFragments, batch_id: str, after: int = -1) -> ClosingProgress:
    """The same inside a transaction that is there already."""
    batch = lock_batch(connection, sql, batch_id)
    if batch is None or batch.status != BatchStatus.CANCELLING:
        return ClosingProgress(0, after, has_ended=True)
    ending = Termination(batch.ending)
    code, message = _error_for(ending, batch)
    upto = after + CHUNK_JOBS
    jobs = connection.execute(
        text(CLOSE_JOBS),
        {
            "batch_id": batch_id,
            "after": after,
            "upto": upto,
            "last_seq": batch.last_seq,
            "outcome": ending.outcome.value,
            "code": code,
            "message": message,
            "no": False,
        },
    ).rowcount
    if jobs:
        counter = ending.outcome.value
        connection.execute(text(ADD_TO_COUNTERS.format(column=counter)), {"batch_id": batch_id, "jobs": jobs})
    if batch.ended + jobs < batch.total:
        if upto < connection.execute(text(SELECT_LAST_POSITION), {"batch_id": batch_id}).scalar_one():
            return ClosingProgress(jobs, upto, has_ended=False)
        # Behind us there may be some again, where the batch was replayed and ended between two chunks.
        if connection.scalar(text(SELECT_OPEN_JOB), {"batch_id": batch_id}):
            return ClosingProgress(jobs, -1, has_ended=False)
    query = FINISH_BATCH.format(status=ending.status.value, now=sql.now)
    connection.execute(text(query), {"batch_id": batch_id, "status": ending.status.value})
    return ClosingProgress(jobs, upto, has_ended=True)


def _error_for(reason: Termination, batch: Row[Any]) -> tuple[str, str]:
    """The code and the sentence of each job that is closed."""
    if reason is Termination.CANCELLED:
        return "cancelled", "the batch was cancelled before this was answered"
    if reason is Termination.EXPIRED:
        return "deadline_passed", "the batch's deadline passed before this was answered"
    return batch.error_code, batch.error_message
