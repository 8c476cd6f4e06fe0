"""Ringing anew: where SQL has work and Redis has no bell, bells are rung. Redis may lose everything."""

from sqlalchemy import text

from models import broker
from models.db import Database
from models.errors import Unreachable
from models.settings import Settings

MOST_BELLS = 20_000  # of one pipeline in a run; what is left is rung for when these are dry
YOUNG_SECONDS = 2.0  # whoever submitted a batch rings for it just now

PIPELINES = """
SELECT DISTINCT b.pipeline FROM batches b
WHERE b.status = 'in_progress' AND b.in_progress_at <= {later}
  AND EXISTS (SELECT 1 FROM slices s WHERE s.batch_id = b.id AND s.state = 'queued'
              AND (s.not_before IS NULL OR s.not_before <= {now}))
"""

WAITING = """
SELECT s.id FROM batches b JOIN slices s ON s.batch_id = b.id
WHERE b.pipeline = :pipeline AND b.status = 'in_progress' AND s.state = 'queued'
  AND (s.not_before IS NULL OR s.not_before <= {now})
ORDER BY s.id LIMIT :most
"""


def rung_anew(database: Database, settings: Settings) -> str:
    """Ring for every slice that waits, of pipelines that have no bell on Redis; a sentence on what was done, or ""."""
    sql = database.sql
    with database.read() as connection:
        query = text(PIPELINES.format(now=sql.now, later=sql.later))
        pipelines = connection.scalars(query, {"seconds": -YOUNG_SECONDS}).all()
    if not pipelines:
        return ""
    said = []
    try:
        for pipeline, bells in broker.depth(settings, pipelines).items():
            if bells == 0:
                slices = _waiting(database, pipeline)
                broker.ring(settings, pipeline, slices)
                said.append(f"{pipeline} ({len(slices):,} slices)")
    except Unreachable:
        pass  # workers look at SQL by themselves, and `batchmill doctor` tells of Redis
    return f"rang anew: {', '.join(said)}" if said else ""


def _waiting(database: Database, pipeline: str) -> list[int]:
    query = text(WAITING.format(now=database.sql.now))
    with database.read() as connection:
        return list(connection.scalars(query, {"pipeline": pipeline, "most": MOST_BELLS}))
