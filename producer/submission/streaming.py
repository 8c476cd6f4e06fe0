"""Streamed submissions: a batch is worked on while more of it is read in, where no row can refuse the whole.

From its first chunk on the batch is `in_progress`, and `reading` until its source has ended: so long it does not end
because all that is there is answered. Its counters are kept in step with each chunk, as with each answer.
"""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, text

from models.db import Database, SqlFragments
from models.lifecycle import slices, termination
from models.states import Termination
from producer.readers.storable import make_storable
from producer.submission.chunks import SOURCE_FAILED, Chunk
from producer.submission.open_submission import OpenSubmission, lost_ownership_error
from producer.submission.request import FailureLimit

WAKEUPS_PER_CHUNK = 16  # rung for while more is read

# The batch's row first, as everywhere; its lock also draws `seq`.
ADD_CHUNK = """
UPDATE batches SET heard_at = {now}, read_jobs = :end, read_digest = :digest, status = 'in_progress', reading = true,
       in_progress_at = coalesce(in_progress_at, {now}), total = :end, failed = failed + :failed,
       last_seq = last_seq + :failed, max_failures = :max_failures
WHERE id = :batch_id AND submitter = :submitter AND (status = 'validating' OR (status = 'in_progress' AND reading))
RETURNING last_seq
"""

END_INGESTION = """
UPDATE batches SET reading = false, max_failures = :max_failures
WHERE id = :batch_id AND submitter = :submitter AND status = 'in_progress' AND reading
"""

# With the strongest lock from the beginning: what was read so far is no batch for the key, so that is freed with it.
LOCK_INGESTING_BATCH = """
SELECT 1 FROM batches
WHERE id = :batch_id AND submitter = :submitter AND status = 'in_progress' AND reading {for_key_update}
"""

COMPLETE_BATCH = "UPDATE batches SET status = 'completed', completed_at = {now} WHERE id = :batch_id"


def add_chunk(
    connection: Connection,
    sql: SqlFragments,
    submission: OpenSubmission,
    chunk: Chunk,
    rows_digest: str | None,
    max_failures: int | None,
) -> int:
    """Count a chunk in, whose rows come in the same transaction; returns the `seq` of its first failure."""
    named = {
        "batch_id": submission.batch_id,
        "submitter": submission.holder_id,
        "end": chunk.end_position,
        "digest": rows_digest,
        "failed": len(chunk.failures),
        "max_failures": max_failures,
    }
    last_seq = connection.scalar(text(ADD_CHUNK.format(now=sql.now)), named)
    if last_seq is None:
        raise lost_ownership_error(connection, submission)
    return int(last_seq) - len(chunk.failures) + 1


def insert_slices(connection: Connection, submission: OpenSubmission, chunk: Chunk, slice_size: int) -> None:
    """Slices over a chunk's jobs; none over such as have failed already altogether."""
    slices.insert_slices(connection, submission.batch_id, _slice_ranges(chunk, slice_size))


def end_ingestion(
    database: Database, submission: OpenSubmission, jobs: int, failure_limit: FailureLimit | None
) -> Sequence[int]:
    """Say that the source has ended; returns the slices that nobody has claimed yet.

    The batch ends here where all that it has is answered, or where more has failed than it allows.
    """
    allowed = None if failure_limit is None else failure_limit.count_for(jobs)
    named = {"batch_id": submission.batch_id, "submitter": submission.holder_id, "max_failures": allowed}

    def work(connection: Connection) -> Sequence[int]:
        if connection.execute(text(END_INGESTION), named).rowcount == 0:
            raise lost_ownership_error(connection, submission)
        batch = termination.lock_batch(connection, database.sql, submission.batch_id)
        if batch is not None and allowed is not None and batch.failed > allowed:
            message = f"{batch.failed:,} jobs failed already, more than the {allowed:,} that this batch allows"
            termination.begin_termination(
                connection,
                database.sql,
                submission.batch_id,
                Termination.FAILURE_LIMIT,
                termination.TOO_MANY_FAILURES,
                message,
            )
            termination.close_chunk(connection, database.sql, submission.batch_id)
        elif batch is not None and batch.ended == batch.total:
            connection.execute(text(COMPLETE_BATCH.format(now=database.sql.now)), named)
        return slices.queued_slice_ids(connection, submission.batch_id)

    return database.transact(work)


def abort(database: Database, submission: OpenSubmission, reason: str) -> None:
    """End a batch whose source can't be read to its end and which nobody will go on with; what is answered stays."""
    named = {"batch_id": submission.batch_id, "submitter": submission.holder_id}

    def work(connection: Connection) -> bool:
        held = text(LOCK_INGESTING_BATCH.format(for_key_update=database.sql.for_key_update))
        if connection.execute(held, named).one_or_none() is None:
            return False
        message = make_storable(f"it was not read to its end: {reason}")
        connection.execute(text(termination.FREE_IDEMPOTENCY_KEY), named)
        termination.begin_termination(
            connection, database.sql, submission.batch_id, Termination.FAILED, SOURCE_FAILED, message
        )
        return True

    if database.transact(work):
        termination.finish_termination(database, submission.batch_id)


def first_queued_slices(database: Database, batch_id: str) -> Sequence[int]:
    """A few slices that nobody has claimed yet, to ring for."""
    with database.read() as connection:
        return slices.queued_slice_ids(connection, batch_id, WAKEUPS_PER_CHUNK)


def _slice_ranges(chunk: Chunk, slice_size: int) -> Iterator[tuple[int, int]]:
    for first in range(chunk.start_position, chunk.end_position, slice_size):
        past = min(first + slice_size, chunk.end_position)
        if any(position not in chunk.failures for position in range(first, past)):
            yield first, past - first
