"""Discarding deletes a batch that was not accepted, with the jobs that it has."""

from functools import partial

from sqlalchemy import Connection, text

from models.db import Database
from producer.submission.open_submission import OpenSubmission, lock_if_held

DELETE_CHUNK_JOBS = 50_000  # deleted in one transaction, so that other writers of a SQLite file get their turn

# First, so that no other process can resume a batch that is being deleted.
RELEASE_KEY = """
UPDATE batches SET idempotency_key = NULL WHERE id = :batch_id AND status = 'validating' AND holder_id = :holder_id
"""

SELECT_LAST_POSITION = "SELECT max(position) FROM jobs WHERE batch_id = :batch_id"
DELETE_JOBS_BEFORE = "DELETE FROM jobs WHERE batch_id = :batch_id AND position < :end"
DELETE_BATCH = "DELETE FROM batches WHERE id = :batch_id AND status = 'validating'"


def delete_batch(database: Database, submission: OpenSubmission) -> None:
    """Delete a batch that was not accepted; one that was, although the connection broke at the commit, is kept."""
    if database.transact(lambda connection: connection.execute(text(RELEASE_KEY), submission.params).rowcount):
        delete_jobs(database, submission)
        database.transact(lambda connection: connection.execute(text(DELETE_BATCH), submission.params))


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
