"""The batches whose inputs are results of another batch."""

from sqlalchemy import text

from models.db import Database

MAX_FOLLOWERS = 20  # that a display names

SELECT_FOLLOWERS = """
SELECT id FROM batches WHERE source_batch_id = :batch_id AND status <> 'deleting' ORDER BY created_at DESC, id DESC
LIMIT :limit
"""


def list_followers(database: Database, batch_id: str) -> list[str]:
    """Return the ids of the batches that were submitted from a batch's results, the newest first; at most 20."""
    with database.read() as connection:
        params = {"batch_id": batch_id, "limit": MAX_FOLLOWERS}
        return list(connection.scalars(text(SELECT_FOLLOWERS), params))
