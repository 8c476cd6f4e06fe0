"""Streamed submissions: a batch is worked on while more of it is read in, where no row can refuse the whole.

From its first chunk on the batch is `in_progress`, and `reading` until its source has ended: so long it does not end
because all that is there is answered. Its counters are kept in step with each chunk, as with each answer.
"""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, text

from models.db import Database, Fragments
from models.lifecycle import slices, termination
from models.states import Ending
from producer.readers.storable import storable
from producer.submission.chunks import BROKE_OFF, Chunk
from producer.submission.open_submission import Entry, lost
from producer.submission.request import Failures

BELLS = 16  # rung for while more is read

# The batch's row first, as everywhere; its lock also draws `seq`.
READ_ON = """
UPDATE batches SET heard_at = {now}, read_jobs = :end, read_digest = :digest, status = 'in_progress', reading = true,
       in_progress_at = coalesce(in_progress_at, {now}), total = :end, failed = failed + :failed,
       last_seq = last_seq + :failed, max_failures = :max_failures
WHERE id = :batch_id AND submitter = :submitter AND (status = 'validating' OR (status = 'in_progress' AND reading))
RETURNING last_seq
"""

FINISH = """
UPDATE batches SET reading = false, max_failures = :max_failures
WHERE id = :batch_id AND submitter = :submitter AND status = 'in_progress' AND reading
"""

# With the strongest lock from the beginning: what was read so far is no batch for the key, so that is freed with it.
HELD = """
SELECT 1 FROM batches
WHERE id = :batch_id AND submitter = :submitter AND status = 'in_progress' AND reading {for_key_update}
"""

COMPLETE = "UPDATE batches SET status = 'completed', completed_at = {now} WHERE id = :batch_id"


def read_on(
    connection: Connection, sql: Fragments, entry: Entry, chunk: Chunk, digest: str | None, allowed: int | None
) -> int:
    """Count a chunk in, whose rows come in the same transaction; returns the `seq` of its first failure."""
    named = {
        "batch_id": entry.batch_id, "submitter": entry.submitter, "end": chunk.end, "digest": digest,
        "failed": len(chunk.failures), "max_failures": allowed,
    }  # fmt: skip
    last_seq = connection.scalar(text(READ_ON.format(now=sql.now)), named)
    if last_seq is None:
        raise lost(connection, entry)
    return int(last_seq) - len(chunk.failures) + 1


def lay_slices(connection: Connection, entry: Entry, chunk: Chunk, slice_jobs: int) -> None:
    """Slices over a chunk's jobs; none over such as have failed already altogether."""
    slices.lay(connection, entry.batch_id, _pieces(chunk, slice_jobs))


def finish(database: Database, entry: Entry, jobs: int, failures: Failures | None) -> Sequence[int]:
    """Say that the source has ended; returns the slices that nobody has claimed yet.

    The batch ends here where all that it has is answered, or where more has failed than it allows.
    """
    allowed = None if failures is None else failures.of(jobs)
    named = {"batch_id": entry.batch_id, "submitter": entry.submitter, "max_failures": allowed}

    def work(connection: Connection) -> Sequence[int]:
        if connection.execute(text(FINISH), named).rowcount == 0:
            raise lost(connection, entry)
        batch = termination.lock_batch(connection, database.sql, entry.batch_id)
        if batch is not None and allowed is not None and batch.failed > allowed:
            message = f"{batch.failed:,} jobs failed already, more than the {allowed:,} that this batch allows"
            termination.begin(connection, database.sql, entry.batch_id, Ending.BURNED, termination.TOO_MANY, message)
            termination.close_some(connection, database.sql, entry.batch_id)
        elif batch is not None and batch.ended == batch.total:
            connection.execute(text(COMPLETE.format(now=database.sql.now)), named)
        return slices.queued(connection, entry.batch_id)

    return database.transact(work)


def break_off(database: Database, entry: Entry, reason: str) -> None:
    """End a batch whose source can't be read to its end and which nobody will go on with; what is answered stays."""
    named = {"batch_id": entry.batch_id, "submitter": entry.submitter}

    def work(connection: Connection) -> bool:
        held = text(HELD.format(for_key_update=database.sql.for_key_update))
        if connection.execute(held, named).one_or_none() is None:
            return False
        message = storable(f"it was not read to its end: {reason}")
        connection.execute(text(termination.FREE_KEY), named)
        termination.begin(connection, database.sql, entry.batch_id, Ending.FAILED, BROKE_OFF, message)
        return True

    if database.transact(work):
        termination.finish(database, entry.batch_id)


def first_queued(database: Database, batch_id: str) -> Sequence[int]:
    """A few slices that nobody has claimed yet, to ring for."""
    with database.read() as connection:
        return slices.queued(connection, batch_id, BELLS)


def _pieces(chunk: Chunk, slice_jobs: int) -> Iterator[tuple[int, int]]:
    for first in range(chunk.first, chunk.end, slice_jobs):
        past = min(first + slice_jobs, chunk.end)
        if any(position not in chunk.failures for position in range(first, past)):
            yield first, past - first
