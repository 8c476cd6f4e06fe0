"""Accepting a batch ends its ingestion: one transaction sets its counters, inserts its slices and starts it."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from models.dialects.fragments import SqlFragments
from models.lifecycle import slices, termination
from producer.batches.actions.requeue import plan_slices
from producer.submission.open_submission import OpenSubmission, lost_ownership_error
from producer.submission.reuse import reusable_results

# Lock order: the batch's row, then its slices, as everywhere.
ACCEPT_BATCH = f"""
UPDATE batches SET status = 'in_progress', in_progress_at = {{now}}, total = :total, failed = :failed,
       succeeded = :reused, reused = :reused, last_seq = :answered, guarded_seq = :answered,
       max_failures = :max_failures
WHERE id = :batch_id AND status = 'validating' AND holder_id = :holder_id
RETURNING {termination.PROGRESS_COLUMNS}
"""  # noqa: S608


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
        "max_failures": max_failures,
    }
    progress = connection.execute(text(ACCEPT_BATCH.format(now=sql.now)), params).one_or_none()
    if progress is None:
        raise lost_ownership_error(connection, submission)
    slice_count = 0
    if jobs.answered < jobs.total:
        slice_count = _insert_slices(connection, submission.batch_id, jobs, slice_size)
    final_status = termination.end_if_done(connection, sql, submission.batch_id, progress)
    return slice_count if final_status is None else 0


def _insert_slices(connection: Connection, batch_id: str, jobs: IngestedJobs, slice_size: int) -> int:
    if jobs.reused:  # there may be few unanswered jobs between those that have a result
        return sum(
            slices.insert_slices(connection, batch_id, plan_slices(positions, slice_size))
            for positions in reusable_results.unanswered_positions(connection, batch_id)
        )
    # Few jobs are invalid, and a slice passes over them.
    ranges = ((start, min(slice_size, jobs.total - start)) for start in range(0, jobs.total, slice_size))
    return slices.insert_slices(connection, batch_id, ranges)
