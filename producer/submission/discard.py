"""An open submission that can't be accepted ends here: it is deleted, failed, or emptied to be read again."""

from dataclasses import replace
from functools import partial

from sqlalchemy import Connection, text

from models.db import Database
from models.errors import BatchmillError, DatabaseRefused, Unreachable
from models.lifecycle import retention, termination
from models.states import Termination
from producer.advice import DoorText, text_of
from producer.readers.storable import make_storable
from producer.submission.chunks import SOURCE_FAILED
from producer.submission.open_submission import OpenSubmission, lock_if_held, lost_ownership_error

DELETE_CHUNK_JOBS = 50_000  # deleted in one transaction, so that other writers of a SQLite file get their turn

# First, so that no other process can resume the batch, and maintenance finishes a deletion that stops half-way. Such a
# small write mostly succeeds even on a full disk.
MARK_DELETING = """
UPDATE batches SET status = 'deleting', idempotency_key = NULL
WHERE id = :batch_id AND status = 'validating' AND holder_id = :holder_id
"""

FORGET_ROWS_READ = """
UPDATE batches SET rows_read = 0, rows_digest = NULL
WHERE id = :batch_id AND status = 'validating' AND holder_id = :holder_id
"""

SELECT_LAST_POSITION = "SELECT max(position) FROM jobs WHERE batch_id = :batch_id"
DELETE_JOBS_BEFORE = "DELETE FROM jobs WHERE batch_id = :batch_id AND position < :end"

DELETE_RESULTS_AND_JOBS = (
    "DELETE FROM results WHERE batch_id = :batch_id",
    "DELETE FROM jobs WHERE batch_id = :batch_id",
)

# With the strongest lock from the start, because the idempotency key is cleared: a lock that grows is a deadlock.
LOCK_INGESTING_BATCH = """
SELECT 1 FROM batches
WHERE id = :batch_id AND holder_id = :holder_id AND status = 'in_progress' AND ingesting {for_key_update}
"""


def discard(database: Database, submission: OpenSubmission, error: BaseException) -> None:
    """Delete a batch that was not accepted; one that was, although the connection broke at the commit, is kept.

    error: the reason; a batch that is streamed already fails with it. If the database does not take the deletion, the
        error names the batch that stays behind.
    """
    try:
        if mark_for_deletion(database, submission):
            retention.finish_deletion(database, submission.batch_id)
        abort_stream(database, submission, str(error) or "it was interrupted")
    except (Unreachable, DatabaseRefused):
        if isinstance(error, BatchmillError):
            leftover = f"{submission.batch_id} was not accepted, and maintenance deletes what is left of it"
            advice = DoorText(
                f"batchmill delete {submission.batch_id} --cancel",
                http=f"DELETE /api/batches/{submission.batch_id}?cancel=true",
                page="delete it on its page",
            )
            error.args = (text_of(error) + f"; {leftover} once the database takes writes again, or: " + advice,)


def mark_for_deletion(database: Database, submission: OpenSubmission) -> bool:
    """Mark a batch that was not accepted for deletion; returns whether it was ours to delete."""
    return database.transact(
        lambda connection: connection.execute(text(MARK_DELETING), submission.params).rowcount == 1
    )


def delete_jobs(database: Database, submission: OpenSubmission) -> None:
    """Delete the jobs except the last ones, in chunks, while the batch is `validating` and ours."""

    def delete(connection: Connection, end: int) -> bool:
        is_held = lock_if_held(connection, database.sql, submission)
        if is_held:
            connection.execute(text(DELETE_JOBS_BEFORE), {**submission.params, "end": end})
        return is_held

    with database.read() as connection:
        last_position = connection.scalar(text(SELECT_LAST_POSITION), submission.params) or 0
    for end in range(DELETE_CHUNK_JOBS, last_position + 1, DELETE_CHUNK_JOBS):
        if not database.transact(partial(delete, end=end)):
            return


def fail_submission(database: Database, submission: OpenSubmission, code: str, message: str) -> None:
    """Fail a batch that is `validating`, with all its jobs; does nothing if another process holds it."""
    message = make_storable(message)

    def work(connection: Connection) -> None:
        if lock_if_held(connection, database.sql, submission):
            termination.begin_termination(
                connection, database.sql, submission.batch_id, Termination.FAILED, code, message
            )
            termination.close_chunk(connection, database.sql, submission.batch_id)

    database.transact(work)


def restart(database: Database, submission: OpenSubmission) -> OpenSubmission:
    """Forget how many rows a batch has, before they are deleted to be read again from the first.

    A process that takes over in the middle of the deletion would otherwise count on rows that are gone.
    """

    def work(connection: Connection) -> None:
        if connection.execute(text(FORGET_ROWS_READ), submission.params).rowcount == 0:
            raise lost_ownership_error(connection, submission)

    database.transact(work)
    return replace(submission, rows_read=0, rows_digest=None, failed=0)


def delete_ingested_rows(database: Database, submission: OpenSubmission) -> None:
    """Delete the rows that a previous holder of the batch inserted."""
    delete_jobs(database, submission)

    def work(connection: Connection) -> None:
        if not lock_if_held(connection, database.sql, submission):
            raise lost_ownership_error(connection, submission)
        for statement in DELETE_RESULTS_AND_JOBS:
            connection.execute(text(statement), submission.params)

    database.transact(work)


def abort_stream(database: Database, submission: OpenSubmission, reason: str) -> None:
    """Fail a batch whose source can't be read to its end, and which nobody can resume; its results stay."""

    def work(connection: Connection) -> bool:
        query = text(LOCK_INGESTING_BATCH.format(for_key_update=database.sql.for_key_update))
        if connection.execute(query, submission.params).one_or_none() is None:
            return False
        message = make_storable(f"it was not read to its end: {reason}")
        connection.execute(text(termination.FREE_IDEMPOTENCY_KEY), submission.params)
        termination.begin_termination(
            connection, database.sql, submission.batch_id, Termination.FAILED, SOURCE_FAILED, message
        )
        return True

    if database.transact(work):
        termination.finish_termination(database, submission.batch_id)
