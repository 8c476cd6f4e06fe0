"""Requeuing runs jobs of an ended batch again, at the same positions.

Their results move to `superseded_results`, the counters go back, and new slices cover the jobs. A slice is a range, and
its claimer skips jobs in between that have results. Therefore no other unfinished slice may overlap it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from models.db import Database
from models.dialects.fragments import comma_separated
from models.errors import UsageError
from models.lifecycle import guard_counters
from models.lifecycle import slices as slicing
from models.lifecycle.termination import lock_batch
from models.states import BatchStatus, JobOutcome
from producer.advice import wait_until_ended
from producer.batches.views import BatchView
from producer.tenants import job_cap
from producer.tenants.job_cap import CapOf
from producer.times import Deadline

# The claimer of a slice scans its whole range, so a slice of few, distant jobs would be slow.
MAX_SPARSENESS = 32  # the longest range of a slice, as a multiple of the slice size
COUNT_OVERLAPPING_SLICES = """
SELECT count(*) FROM slices WHERE batch_id = :batch_id AND state <> 'done' AND start_position + size > :start_position
"""
ARCHIVE_RESULTS = """
INSERT INTO superseded_results (batch_id, position, seq, status, output, error_code, error_message, truncated, attempts,
                          slice_id, fencing_token, model_version_id, finished_at, windows, guards, vector,
                          input_tokens, output_tokens, finish_reason)
SELECT batch_id, position, seq, status, output, error_code, error_message, truncated, attempts,
       slice_id, fencing_token, model_version_id, finished_at, windows, guards, vector,
       input_tokens, output_tokens, finish_reason
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
UNEXPIRED_DEADLINE = "CASE WHEN expires_at > {now} THEN expires_at END"


def check_ended(batch: BatchView) -> None:
    """Raise UsageError unless a batch has ended."""
    if not batch.status.has_ended:
        raise UsageError(f"{batch.id} is {batch.status.value}; " + wait_until_ended(batch.id))


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
class Requeue:
    """Requeues jobs of a batch that has ended, and reopens the batch, chunk by chunk in the order of positions."""

    database: Database
    batch: BatchView
    slice_size: int
    deadline: Deadline | None
    cap_of: CapOf

    @property
    def batch_id(self) -> str:
        """The batch's id."""
        return self.batch.id

    def lock_and_check(self, connection: Connection, *, is_continuation: bool) -> None:
        """Lock the batch's row; raises UsageError unless the batch has ended, or `is_continuation` and it runs."""
        batch = lock_batch(connection, self.database.sql, self.batch_id)
        status = BatchStatus(batch.status) if batch is not None else BatchStatus.CANCELLING
        if not status.has_ended and (status is not BatchStatus.IN_PROGRESS or not is_continuation):
            raise UsageError(f"{self.batch_id} runs again already; " + wait_until_ended(self.batch_id))

    def requeue(self, connection: Connection, positions: Sequence[int], outcomes: Mapping[str, int]) -> int:
        """Requeue the jobs at these ascending positions; returns the number of their slices.

        outcomes: how many of them have which outcome
        """
        job_cap.check_room(connection, self.batch.tenant, self.cap_of(self.batch.tenant), len(positions))
        overlap = {"batch_id": self.batch_id, "start_position": positions[0]}
        if connection.scalar(text(COUNT_OVERLAPPING_SLICES), overlap):
            raise UsageError(f"another process retries {self.batch_id}; " + wait_until_ended(self.batch_id))
        self._archive_results(connection, positions)
        slice_count = slicing.insert_slices(connection, self.batch_id, plan_slices(positions, self.slice_size))
        self._reopen_batch(connection, outcomes)
        return slice_count

    def _archive_results(self, connection: Connection, positions: Sequence[int]) -> None:
        guard_counters.subtract_results(connection, self.database.sql, self.batch_id, positions)
        params = {"batch_id": self.batch_id, "numbers": comma_separated(positions)}
        for statement in (ARCHIVE_RESULTS, DELETE_RESULTS):
            connection.execute(text(statement.format(in_numbers=self.database.sql.in_numbers)), params)

    def _reopen_batch(self, connection: Connection, outcomes: Mapping[str, int]) -> None:
        sql = self.database.sql
        failures = [outcome.value for outcome in JobOutcome if outcome is not JobOutcome.SUCCEEDED]
        params = {"batch_id": self.batch_id, **{outcome: outcomes.get(outcome, 0) for outcome in failures}}
        if self.deadline is not None:
            connection.execute(*self.deadline.bind(REOPEN_BATCH, sql.now_plus_seconds, **params))
            return
        query = text(REOPEN_BATCH.format(expires_at=UNEXPIRED_DEADLINE.format(now=sql.now)))
        connection.execute(query, params)
