"""Retrying runs jobs of an ended batch again, in the same batch and at the same positions.

Their results move to `superseded_results`, the counters go back, and new slices cover the jobs, 20,000 at a time. The
batch is consistent after each chunk, so an interrupted retry has retried a part. A slice is a range, and its claimer
skips jobs in between that have results. Therefore no other unfinished slice may overlap it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Text, TextClause, bindparam, text

from models.db import Database, comma_separated
from models.errors import UsageError
from models.lifecycle import slices as slicing
from models.lifecycle.termination import lock_batch
from models.states import BatchStatus, JobOutcome
from producer.batches import views
from producer.times import Deadline

CHUNK_JOBS = 20_000
# The claimer of a slice scans its whole range, so a slice of few, distant jobs would be slow.
MAX_SPARSENESS = 32  # the longest range of a slice, as a multiple of the slice size

# A row that was invalid on submission has no input, and is not retryable. The range is bounded on both sides, so that a
# chunk reads only its own positions.
SELECT_RETRYABLE = """
SELECT r.position, r.status FROM results r JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
WHERE r.batch_id = :batch_id AND r.position > :after AND r.position <= :last AND r.status IN :outcomes
  AND j.input <> {no_input} AND (:any_code OR r.error_code IN :codes)
ORDER BY r.position
"""

SELECT_LAST_POSITION = "SELECT coalesce(max(position), -1) FROM results WHERE batch_id = :batch_id"

COUNT_OVERLAPPING_SLICES = """
SELECT count(*) FROM slices WHERE batch_id = :batch_id AND state <> 'done' AND start_position + size > :start_position
"""

ARCHIVE_RESULTS = """
INSERT INTO superseded_results (batch_id, position, seq, status, output, error_code, error_message, truncated, attempts,
                          slice_id, fencing_token, model_version_id, finished_at)
SELECT batch_id, position, seq, status, output, error_code, error_message, truncated, attempts,
       slice_id, fencing_token, model_version_id, finished_at
FROM results WHERE batch_id = :batch_id AND position {in_numbers}
"""

DELETE_RESULTS = "DELETE FROM results WHERE batch_id = :batch_id AND position {in_numbers}"

REOPEN_BATCH = """
UPDATE batches SET status = 'in_progress', ingesting = false, failed = failed - :failed,
       cancelled = cancelled - :cancelled, expired = expired - :expired, completed_at = NULL, failed_at = NULL,
       expired_at = NULL, cancelling_at = NULL, cancelled_at = NULL, error_code = NULL, error_message = NULL,
       expires_at = {expires_at}
WHERE id = :batch_id
"""

# A batch over its failure limit would exceed it again at the first result, so its remaining failures raise the limit.
RAISE_FAILURE_LIMIT = """
UPDATE batches SET max_failures = max_failures + failed - (
    SELECT count(*) FROM results r WHERE r.batch_id = :batch_id AND r.status = 'failed' AND :takes_failed
      AND (:any_code OR r.error_code IN :codes))
WHERE id = :batch_id AND failed > max_failures
"""

UNEXPIRED_DEADLINE = "CASE WHEN expires_at > {now} THEN expires_at END"


@dataclass(frozen=True, slots=True)
class RetrySelection:
    """The jobs to retry.

    outcomes: outcomes of these jobs
    codes: error codes of these jobs; empty = any
    """

    outcomes: tuple[JobOutcome, ...] = (JobOutcome.FAILED,)
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryResult:
    """The number of a batch's requeued jobs, and of the slices to send wakeups for."""

    batch_id: str
    pipeline: str
    jobs: int
    slices: int


def retry_jobs(
    database: Database, batch_id: str, selection: RetrySelection, slice_size: int, deadline: Deadline | None = None
) -> RetryResult:
    """Requeue the selected jobs of a batch that has ended.

    slice_size: jobs per slice
    deadline: the batch's new deadline; None keeps the old one, unless it has passed

    Raises NotFound, and UsageError when the batch has not ended or no job is selected.
    """
    batch = views.get_batch(database, batch_id)
    if not batch.status.has_ended:
        raise UsageError(f"{batch_id} is {batch.status.value}; wait until it has ended: batchmill wait {batch_id}")
    with database.read() as connection:
        last_position = connection.execute(text(SELECT_LAST_POSITION), {"batch_id": batch_id}).scalar_one()
    requeue = _Retry(database, batch_id, selection, slice_size, deadline).requeue_chunk
    jobs, slice_count = 0, 0
    for position in range(-1, last_position, CHUNK_JOBS):
        chunk = database.transact(partial(requeue, after_position=position, is_continuation=jobs > 0))
        jobs, slice_count = jobs + chunk[0], slice_count + chunk[1]
    if jobs == 0:
        raise UsageError(
            f"{batch_id} has no {_describe_selection(selection)} jobs to try again; see: batchmill show {batch_id}"
        )
    return RetryResult(batch_id, batch.pipeline, jobs, slice_count)


def plan_slices(positions: Sequence[int], slice_size: int) -> Iterator[tuple[int, int]]:
    """Yield `(first, size)` of disjoint slices that cover these ascending positions. Pure."""
    first, count, last = positions[0], 0, positions[0]
    for position in positions:
        if count == slice_size or position - first >= slice_size * MAX_SPARSENESS:
            yield first, last - first + 1
            first, count = position, 0
        last, count = position, count + 1
    yield first, last - first + 1


@dataclass(frozen=True, slots=True)
class _Retry:
    """One call of `retry_jobs`, chunk by chunk."""

    database: Database
    batch_id: str
    selection: RetrySelection
    slice_size: int
    deadline: Deadline | None

    def requeue_chunk(self, connection: Connection, *, after_position: int, is_continuation: bool) -> tuple[int, int]:
        """Requeue the selected jobs of the chunk after `after_position`; returns how many, and in how many slices."""
        self._lock_and_check(connection, is_continuation=is_continuation)
        params = _selection_params(self.batch_id, self.selection, after_position)
        rows = connection.execute(_retryable_query(self.database), params).all()
        if not rows:
            return 0, 0
        if not is_continuation:
            query = text(RAISE_FAILURE_LIMIT).bindparams(bindparam("codes", expanding=True, type_=Text()))
            takes_failed = JobOutcome.FAILED in self.selection.outcomes
            connection.execute(query, {**params, "takes_failed": takes_failed})
        positions = [row.position for row in rows]
        overlap = {"batch_id": self.batch_id, "start_position": positions[0]}
        if connection.scalar(text(COUNT_OVERLAPPING_SLICES), overlap):
            raise UsageError(
                f"another process retries {self.batch_id}; wait until it has ended: batchmill wait {self.batch_id}"
            )
        self._archive_results(connection, positions)
        slice_count = slicing.insert_slices(connection, self.batch_id, plan_slices(positions, self.slice_size))
        self._reopen_batch(connection, Counter(row.status for row in rows))
        return len(positions), slice_count

    def _lock_and_check(self, connection: Connection, *, is_continuation: bool) -> None:
        batch = lock_batch(connection, self.database.sql, self.batch_id)
        status = BatchStatus(batch.status) if batch is not None else BatchStatus.CANCELLING
        if not status.has_ended and (status is not BatchStatus.IN_PROGRESS or not is_continuation):
            raise UsageError(
                f"{self.batch_id} runs again already; wait until it has ended: batchmill wait {self.batch_id}"
            )

    def _archive_results(self, connection: Connection, positions: Sequence[int]) -> None:
        params = {"batch_id": self.batch_id, "numbers": comma_separated(positions)}
        for statement in (ARCHIVE_RESULTS, DELETE_RESULTS):
            connection.execute(text(statement.format(in_numbers=self.database.sql.in_numbers)), params)

    def _reopen_batch(self, connection: Connection, outcomes: Counter[str]) -> None:
        sql = self.database.sql
        failures = [outcome.value for outcome in JobOutcome if outcome is not JobOutcome.SUCCEEDED]
        params = {"batch_id": self.batch_id, **{outcome: outcomes[outcome] for outcome in failures}}
        if self.deadline is not None:
            connection.execute(*self.deadline.bind(REOPEN_BATCH, sql.now_plus_seconds, **params))
            return
        query = text(REOPEN_BATCH.format(expires_at=UNEXPIRED_DEADLINE.format(now=sql.now)))
        connection.execute(query, params)


def _retryable_query(database: Database) -> TextClause:
    query = text(SELECT_RETRYABLE.format(no_input=database.sql.empty_document))
    return query.bindparams(bindparam("outcomes", expanding=True), bindparam("codes", expanding=True, type_=Text()))


def _selection_params(batch_id: str, selection: RetrySelection, after_position: int) -> dict[str, Any]:
    return {
        "batch_id": batch_id,
        "after": after_position,
        "last": after_position + CHUNK_JOBS,
        "any_code": not selection.codes,
        "outcomes": [outcome.value for outcome in selection.outcomes],
        "codes": list(selection.codes),
    }


def _describe_selection(selection: RetrySelection) -> str:
    outcomes = " or ".join(outcome.value for outcome in selection.outcomes)
    return f"{outcomes} ({', '.join(selection.codes)})" if selection.codes else outcomes
