"""Ringing anew: where SQL has work and Redis has no bell, bells are rung. Redis may lose everything."""

from sqlalchemy import text

from models.db import Database
from models.errors import Unreachable
from models.lifecycle import claim_order, wakeups
from models.settings import Settings

MOST_BELLS = 20_000  # of one pipeline in a run; what is left is rung for when these are dry
YOUNG_SECONDS = 2.0  # whoever submitted a batch rings for it just now

# From one name to the next, however many batches each has; then the first slice of each that is old enough.
PIPELINES = """
WITH RECURSIVE names(pipeline) AS (
    SELECT min(pipeline) FROM batches WHERE status = 'in_progress'
    UNION ALL
    SELECT (SELECT min(b.pipeline) FROM batches b WHERE b.status = 'in_progress' AND b.pipeline > names.pipeline)
    FROM names WHERE names.pipeline IS NOT NULL
)
SELECT pipeline FROM names WHERE pipeline IS NOT NULL AND ({any_old})
"""

OLD = """
pipeline = names.pipeline AND (not_before IS NULL OR not_before <= {now})
AND (SELECT b.status = 'in_progress' AND b.in_progress_at <= {later} FROM batches b WHERE b.id = slices.batch_id)
"""

WAITING = """
SELECT id FROM slices WHERE {which} AND pipeline = :pipeline AND (not_before IS NULL OR not_before <= {now})
  AND (SELECT b.status = 'in_progress' FROM batches b WHERE b.id = slices.batch_id)
ORDER BY {order} LIMIT :most
"""


def rung_anew(database: Database, settings: Settings) -> str:
    """Ring for every slice that waits, of pipelines that have no bell on Redis; a sentence on what was done, or ""."""
    sql = database.sql
    with database.read() as connection:
        query = text(PIPELINES.format(any_old=claim_order.any_queued(OLD.format(now=sql.now, later=sql.later))))
        pipelines = connection.scalars(query, {"seconds": -YOUNG_SECONDS}).all()
    if not pipelines:
        return ""
    said = []
    try:
        for pipeline, bells in wakeups.depth(settings, pipelines).items():
            if bells == 0:
                slices = _waiting(database, pipeline)
                wakeups.ring(settings, pipeline, slices)
                said.append(f"{pipeline} ({len(slices):,} slices)")
    except Unreachable:
        pass  # workers look at SQL by themselves, and `batchmill doctor` tells of Redis
    return f"rang anew: {', '.join(said)}" if said else ""


def _waiting(database: Database, pipeline: str) -> list[int]:
    found: list[int] = []
    with database.read() as connection:
        for which in (claim_order.ORDINARY, claim_order.QUARANTINED):
            query = text(WAITING.format(which=which, now=database.sql.now, order=", ".join(claim_order.KEY)))
            found += connection.scalars(query, {"pipeline": pipeline, "most": MOST_BELLS - len(found)})
    return found
