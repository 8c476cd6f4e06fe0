"""A streamed batch is worked on while more of it is read; this needs a request whose rows can't reject the batch.

From its first chunk on the batch is `in_progress`, and it is `ingesting` until its source has ended. Until then it does
not complete, even if all its jobs are answered. Each chunk updates the batch's counters, as each result does.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from models.db import Database
from models.dialects.fragments import SqlFragments
from models.lifecycle import slices, termination
from producer.submission.chunks import Chunk
from producer.submission.open_submission import OpenSubmission, lost_ownership_error
from producer.submission.request import FailureLimit

# The batch's row first, as everywhere; its lock also draws `seq`.
ADD_CHUNK = """
UPDATE batches SET holder_heartbeat_at = {now}, rows_read = :end, rows_digest = :digest, status = 'in_progress',
       ingesting = true, in_progress_at = coalesce(in_progress_at, {now}), total = :end, failed = failed + :failed,
       last_seq = last_seq + :failed, max_failures = :max_failures
WHERE id = :batch_id AND holder_id = :holder_id AND (status = 'validating' OR (status = 'in_progress' AND ingesting))
RETURNING last_seq
"""

END_INGESTION = f"""
UPDATE batches SET ingesting = false, max_failures = :max_failures
WHERE id = :batch_id AND holder_id = :holder_id AND status = 'in_progress' AND ingesting
RETURNING {termination.PROGRESS_COLUMNS}
"""  # noqa: S608


def add_chunk(
    connection: Connection,
    sql: SqlFragments,
    submission: OpenSubmission,
    chunk: Chunk,
    rows_digest: str | None,
    max_failures: int | None,
) -> int:
    """Count a chunk whose rows follow in the same transaction; returns the `seq` of its first failure."""
    params = {
        **submission.params,
        "end": chunk.end_position,
        "digest": rows_digest,
        "failed": len(chunk.failures),
        "max_failures": max_failures,
    }
    last_seq = connection.scalar(text(ADD_CHUNK.format(now=sql.now)), params)
    if last_seq is None:
        raise lost_ownership_error(connection, submission)
    return int(last_seq) - len(chunk.failures) + 1


def insert_slices(connection: Connection, submission: OpenSubmission, chunk: Chunk, slice_size: int) -> int:
    """Insert slices for a chunk's jobs, except where all jobs of a slice have failed; returns their number."""
    return slices.insert_slices(connection, submission.batch_id, _slice_ranges(chunk, slice_size))


def end_ingestion(
    database: Database, submission: OpenSubmission, jobs: int, failure_limit: FailureLimit | None
) -> None:
    """Record that the source has ended.

    The batch ends here where all its jobs are answered, or where more have failed than it allows.
    """
    max_failures = None if failure_limit is None else failure_limit.count_for(jobs)
    params = {**submission.params, "max_failures": max_failures}

    def work(connection: Connection) -> None:
        progress = connection.execute(text(END_INGESTION), params).one_or_none()
        if progress is None:
            raise lost_ownership_error(connection, submission)
        termination.end_if_done(connection, database.sql, submission.batch_id, progress)

    database.transact(work)


def _slice_ranges(chunk: Chunk, slice_size: int) -> Iterator[tuple[int, int]]:
    for start in range(chunk.start_position, chunk.end_position, slice_size):
        end = min(start + slice_size, chunk.end_position)
        if any(position not in chunk.failures for position in range(start, end)):
            yield start, end - start
