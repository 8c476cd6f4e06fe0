"""Which batches have failures of a code, so that a count leads to the jobs behind it."""

from collections.abc import Sequence

from sqlalchemy import text

from models.db import Database
from producer.activity.attention import TroubledBatch
from producer.batches.pace import FAILURES_HINT

MAX_BATCHES = 12  # that are looked into, those with the most failed jobs first
MAX_FAILURES = 200  # of each, by their index; codes that only later ones have are not found

SELECT_CODES = """
SELECT DISTINCT error_code FROM (
    SELECT error_code FROM results{hint} WHERE batch_id = :batch_id AND status = 'failed'
    ORDER BY position LIMIT :limit) AS first_failures
"""


def find_by_code(database: Database, batches: Sequence[TroubledBatch]) -> dict[str, list[TroubledBatch]]:
    """Return batches by the codes of their first failures, those with the most failed jobs first."""
    failing = sorted((batch for batch in batches if batch.failed), key=lambda batch: -batch.failed)[:MAX_BATCHES]
    query = text(SELECT_CODES.format(hint=FAILURES_HINT[database.engine.dialect.name]))
    found: dict[str, list[TroubledBatch]] = {}
    with database.read() as connection:
        for batch in failing:
            for code in connection.scalars(query, {"batch_id": batch.id, "limit": MAX_FAILURES}):
                found.setdefault(code or "", []).append(batch)
    return found
