"""Accepting a batch ends its ingestion: one transaction sets its counters, inserts its slices and starts it."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from models.db import SqlFragments
from models.lifecycle import slices, termination
from models.states import Termination
from producer.batches import retry
from producer.submission import reuse
from producer.submission.open_submission import OpenSubmission, lost_ownership_error

# Lock order: the batch's row, then its slices, as everywhere.
ACCEPT_BATCH = """
UPDATE batches SET status = CASE WHEN :ended THEN 'completed' ELSE 'in_progress' END, in_progress_at = {now},
       completed_at = CASE WHEN :ended THEN {now} END, total = :total, failed = :failed, succeeded = :reused,
       reused = :reused, last_seq = :answered, max_failures = :max_failures
WHERE id = :batch_id AND status = 'validating' AND holder_id = :holder_id
"""


@dataclass(frozen=True, slots=True)
class IngestedJobs:
    """The number of jobs of a batch whose rows are all ingested, and how many of them have a result already."""

    total: int
    failed: int
    reused: int = 0

    @property
    def answered(self) -> int:
        """The jobs that have a result."""
        return self.failed + self.reused


NO_JOBS = IngestedJobs(0, 0)


def accept_batch(
    connection: Connection,
    sql: SqlFragments,
    submission: OpenSubmission,
    jobs: IngestedJobs,
    slice_size: int,
    max_failures: int | None,
) -> int:
    """Start a batch in the caller's transaction; returns the number of its queued slices."""
    params = {
        **submission.params,
        "total": jobs.total,
        "failed": jobs.failed,
        "reused": jobs.reused,
        "answered": jobs.answered,
        "ended": jobs.answered == jobs.total,
        "max_failures": max_failures,
    }
    if connection.execute(text(ACCEPT_BATCH.format(now=sql.now)), params).rowcount == 0:
        raise lost_ownership_error(connection, submission)
    slice_count = 0
    if jobs.answered < jobs.total:
        slice_count = _insert_slices(connection, submission.batch_id, jobs, slice_size)
    ended = end_if_over_limit(connection, sql, submission.batch_id, jobs.failed, max_failures)
    return 0 if ended else slice_count


def end_if_over_limit(
    connection: Connection, sql: SqlFragments, batch_id: str, failed: int, max_failures: int | None
) -> bool:
    """Begin to terminate a batch that has more failed jobs than it allows; returns whether it has."""
    if max_failures is None or failed <= max_failures:
        return False
    message = f"{failed:,} jobs failed already, more than the {max_failures:,} that this batch allows"
    termination.begin_termination(
        connection, sql, batch_id, Termination.FAILURE_LIMIT, termination.TOO_MANY_FAILURES, message
    )
    termination.close_chunk(connection, sql, batch_id)
    return True


def _insert_slices(connection: Connection, batch_id: str, jobs: IngestedJobs, slice_size: int) -> int:
    if jobs.reused:  # there may be few unanswered jobs between those that have a result
        return sum(
            slices.insert_slices(connection, batch_id, retry.plan_slices(positions, slice_size))
            for positions in reuse.unanswered_positions(connection, batch_id)
        )
    # Few jobs are invalid, and a slice passes over them.
    ranges = ((start, min(slice_size, jobs.total - start)) for start in range(0, jobs.total, slice_size))
    return slices.insert_slices(connection, batch_id, ranges)
