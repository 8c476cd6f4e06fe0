"""What reads the results of a batch, and so is affected if the batch is deleted."""

from dataclasses import dataclass

from sqlalchemy import text

from models.db import Database

MAX_NAMED = 20

SELECT_OPEN_FOLLOWERS = """
SELECT id FROM batches
WHERE source_batch_id = :batch_id AND status IN ('validating', 'in_progress') ORDER BY created_at DESC, id DESC
LIMIT :limit
"""

# Open runs are few, whatever the history.
SELECT_OPEN_RUNS = """
SELECT DISTINCT schedule FROM runs
WHERE next_check_at IS NOT NULL AND (source_batch_id = :batch_id OR batch_id = :batch_id) ORDER BY schedule LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class ReadersOfBatch:
    """Open work that needs a batch; at most 20 of each kind.

    batch_ids: batches that were submitted from its results
    schedules: names of those with an open run that made it or reads it
    """

    batch_ids: tuple[str, ...]
    schedules: tuple[str, ...]


def find_readers(database: Database, batch_id: str) -> ReadersOfBatch:
    """Return what still reads a batch."""
    params = {"batch_id": batch_id, "limit": MAX_NAMED}
    with database.read() as connection:
        batch_ids, schedules = (
            tuple(connection.scalars(text(query), params)) for query in (SELECT_OPEN_FOLLOWERS, SELECT_OPEN_RUNS)
        )
    return ReadersOfBatch(batch_ids, schedules)
