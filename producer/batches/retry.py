"""Replaying: jobs that failed are tried again, in the same batch and the same rows' place; the old results are kept.

Their results move to `past_results`, the counters go back, and new slices cover them, some thousands at a time: after
each step the batch is sound, so a replay that is broken off has replayed a part. A slice is a range: jobs in between
that have results are passed over by whoever claims it, so no other slice that runs may reach into it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Text, TextClause, bindparam, text

from models.db import Database, SqlFragments, comma_separated
from models.errors import UsageError
from models.lifecycle import slices as slicing
from models.lifecycle.termination import lock_batch
from models.states import BatchStatus, JobOutcome
from producer.batches import views
from producer.times import Deadline

CHUNK_JOBS = 20_000
# A slice of few jobs that lie far apart would have its claimer look through all that lies between.
MAX_SPARSENESS = 32  # times the jobs that a slice may have

# What could not be a job when it was read in has no input, and can't be one now. Bounded on both sides: a chunk reads
# its own places, and not all that are behind it.
SELECT_RETRYABLE = """
SELECT r.position, r.status FROM results r JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
WHERE r.batch_id = :batch_id AND r.position > :after AND r.position <= :upto AND r.status IN :outcomes
  AND j.input <> {no_input} AND (:any_code OR r.error_code IN :codes)
ORDER BY r.position
"""

SELECT_LAST_POSITION = "SELECT coalesce(max(position), -1) FROM results WHERE batch_id = :batch_id"

COUNT_OVERLAPPING_SLICES = """
SELECT count(*) FROM slices WHERE batch_id = :batch_id AND state <> 'done' AND first + size > :first
"""

ARCHIVE_RESULTS = """
INSERT INTO past_results (batch_id, position, seq, status, output, error_code, error_message, truncated, attempts,
                          slice_id, token, model_version_id, finished_at)
SELECT batch_id, position, seq, status, output, error_code, error_message, truncated, attempts,
       slice_id, token, model_version_id, finished_at
FROM results WHERE batch_id = :batch_id AND position {in_numbers}
"""

DELETE_RESULTS = "DELETE FROM results WHERE batch_id = :batch_id AND position {in_numbers}"

REOPEN_BATCH = """
UPDATE batches SET status = 'in_progress', reading = false, failed = failed - :failed,
       cancelled = cancelled - :cancelled, expired = expired - :expired, completed_at = NULL, failed_at = NULL,
       expired_at = NULL, cancelling_at = NULL, cancelled_at = NULL, error_code = NULL, error_message = NULL,
       expires_at = {expires_at}
WHERE id = :batch_id
"""

# A batch that burned would burn again at the first answer: what stays failed is allowed for on top.
RAISE_FAILURE_LIMIT = """
UPDATE batches SET max_failures = max_failures + failed - (
    SELECT count(*) FROM results r WHERE r.batch_id = :batch_id AND r.status = 'failed' AND :takes_failed
      AND (:any_code OR r.error_code IN :codes))
WHERE id = :batch_id AND failed > max_failures
"""

UNEXPIRED_DEADLINE = "CASE WHEN expires_at > {now} THEN expires_at END"


@dataclass(frozen=True, slots=True)
class RetrySelection:
    """Which jobs to try again: those of these outcomes, and of these error codes where some are named."""

    outcomes: tuple[JobOutcome, ...] = (JobOutcome.FAILED,)
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryResult:
    """What was put back: how many jobs, and the slices to ring for."""

    batch_id: str
    pipeline: str
    jobs: int
    slice_ids: Sequence[int]


def retry_jobs(
    database: Database, batch_id: str, selection: RetrySelection, slice_size: int, deadline: Deadline | None = None
) -> RetryResult:
    """Put a batch's chosen jobs back; a deadline that has passed is dropped, unless there is a new one.

    Raises NotFound, and UsageError where the batch has not ended or nothing of it is chosen.
    """
    batch = views.get_batch(database, batch_id)
    if not batch.status.has_ended:
        raise UsageError(f"{batch_id} is {batch.status.value}; wait until it has ended: batchmill wait {batch_id}")
    with database.read() as connection:
        last = connection.execute(text(SELECT_LAST_POSITION), {"batch_id": batch_id}).scalar_one()
    jobs = 0
    for after in range(-1, last, CHUNK_JOBS):
        work = partial(
            _requeue_chunk,
            database=database,
            batch_id=batch_id,
            selection=selection,
            slice_size=slice_size,
            after_position=after,
            deadline=deadline,
            is_continuation=jobs > 0,
        )
        jobs += database.transact(work)
    if jobs == 0:
        raise UsageError(
            f"{batch_id} has no {_describe_selection(selection)} jobs to try again; see: batchmill show {batch_id}"
        )
    with database.read() as connection:
        slice_ids = slicing.queued_slice_ids(connection, batch_id)
    return RetryResult(batch_id, batch.pipeline, jobs, slice_ids)


def plan_slices(positions: Sequence[int], slice_size: int) -> Iterator[tuple[int, int]]:
    """`(first, size)` of slices that cover these positions, which ascend, and overlap nowhere. Pure."""
    first, count, last = positions[0], 0, positions[0]
    for position in positions:
        if count == slice_size or position - first >= slice_size * MAX_SPARSENESS:
            yield first, last - first + 1
            first, count = position, 0
        last, count = position, count + 1
    yield first, last - first + 1


def _requeue_chunk(
    connection: Connection,
    database: Database,
    batch_id: str,
    selection: RetrySelection,
    slice_size: int,
    after_position: int,
    deadline: Deadline | None,
    *,
    is_continuation: bool,
) -> int:
    """Put back what is chosen of the chunk behind the position `after`; returns how many jobs that were."""
    batch = lock_batch(connection, database.sql, batch_id)
    status = BatchStatus(batch.status) if batch is not None else BatchStatus.CANCELLING
    if not status.has_ended and (status is not BatchStatus.IN_PROGRESS or not is_continuation):
        raise UsageError(f"{batch_id} runs again already; wait until it has ended: batchmill wait {batch_id}")
    rows = connection.execute(_retryable_query(database), _selection_params(batch_id, selection, after_position)).all()
    if not rows:
        return 0
    if not is_continuation:
        query = text(RAISE_FAILURE_LIMIT).bindparams(bindparam("codes", expanding=True, type_=Text()))
        takes_failed = JobOutcome.FAILED in selection.outcomes
        connection.execute(
            query, {**_selection_params(batch_id, selection, after_position), "takes_failed": takes_failed}
        )
    positions = [row.position for row in rows]
    if connection.scalar(text(COUNT_OVERLAPPING_SLICES), {"batch_id": batch_id, "first": positions[0]}):
        raise UsageError(f"somebody else replays {batch_id}; wait until it has ended: batchmill wait {batch_id}")
    _archive_results(connection, database.sql, batch_id, positions)
    slicing.insert_slices(connection, batch_id, plan_slices(positions, slice_size))
    _reopen_batch(connection, database, batch_id, Counter(row.status for row in rows), deadline)
    return len(positions)


def _archive_results(connection: Connection, sql: SqlFragments, batch_id: str, positions: Sequence[int]) -> None:
    named = {"batch_id": batch_id, "numbers": comma_separated(positions)}
    for statement in (ARCHIVE_RESULTS, DELETE_RESULTS):
        connection.execute(text(statement.format(in_numbers=sql.in_numbers)), named)


def _reopen_batch(
    connection: Connection, database: Database, batch_id: str, outcomes: Counter[str], deadline: Deadline | None
) -> None:
    sql = database.sql
    counts = {outcome.value: outcomes[outcome.value] for outcome in JobOutcome if outcome is not JobOutcome.SUCCEEDED}
    if deadline is not None:
        connection.execute(*deadline.bind(REOPEN_BATCH, sql.now_plus_seconds, batch_id=batch_id, **counts))
        return
    query = text(REOPEN_BATCH.format(expires_at=UNEXPIRED_DEADLINE.format(now=sql.now)))
    connection.execute(query, {"batch_id": batch_id, **counts})


def _retryable_query(database: Database) -> TextClause:
    query = text(SELECT_RETRYABLE.format(no_input=database.sql.empty_document))
    return query.bindparams(bindparam("outcomes", expanding=True), bindparam("codes", expanding=True, type_=Text()))


def _selection_params(batch_id: str, selection: RetrySelection, after_position: int) -> dict[str, Any]:
    return {
        "batch_id": batch_id,
        "after": after_position,
        "upto": after_position + CHUNK_JOBS,
        "any_code": not selection.codes,
        "outcomes": [outcome.value for outcome in selection.outcomes],
        "codes": list(selection.codes),
    }


def _describe_selection(selection: RetrySelection) -> str:
    chosen = " or ".join(outcome.value for outcome in selection.outcomes)
    return f"{chosen} ({', '.join(selection.codes)})" if selection.codes else chosen
