"""Ringing anew: where SQL has work and Redis has no bell, bells are rung. Redis may lose everything."""

from sqlalchemy import text

from models.db import Database
from models.errors import Unreachable
from models.lifecycle import claim_order, wakeups
from models.settings import Settings

MAX_WAKEUPS = 20_000  # of one pipeline in a run; what is left is rung for when these are dry
MIN_BATCH_AGE_SECONDS = 2.0  # whoever submitted a batch rings for it just now

# From one name to the next, however many batches each has; then the first slice of each that is old enough.
SELECT_PIPELINES_WITH_WORK = """
WITH RECURSIVE names(pipeline) AS (
    SELECT min(pipeline) FROM batches WHERE status = 'in_progress'
    UNION ALL
    SELECT (SELECT min(b.pipeline) FROM batches b WHERE b.status = 'in_progress' AND b.pipeline > names.pipeline)
    FROM names WHERE names.pipeline IS NOT NULL
)
SELECT pipeline FROM names WHERE pipeline IS NOT NULL AND ({any_old})
"""

IS_OLD_ENOUGH = """
pipeline = names.pipeline AND (not_before IS NULL OR not_before <= {now})
AND (SELECT b.status = 'in_progress' AND b.in_progress_at <= {later} FROM batches b WHERE b.id = slices.batch_id)
"""

SELECT_CLAIMABLE_SLICES = """
SELECT id FROM slices WHERE {which} AND pipeline = :pipeline AND (not_before IS NULL OR not_before <= {now})
  AND (SELECT b.status = 'in_progress' FROM batches b WHERE b.id = slices.batch_id)
ORDER BY {order} LIMIT :most
"""


def resend_lost_wakeups(database: Database, settings: Settings) -> str:
    """Ring for every slice that waits, of pipelines that have no bell on Redis; a sentence on what was done, or ""."""
    sql = database.sql
    with database.read() as connection:
        query = text(
            SELECT_PIPELINES_WITH_WORK.format(
                any_old=claim_order.any_queued_slice(IS_OLD_ENOUGH.format(now=sql.now, later=sql.now_plus_seconds))
            )
        )
        pipelines = connection.scalars(query, {"seconds": -MIN_BATCH_AGE_SECONDS}).all()
    if not pipelines:
        return ""
    said = []
    try:
        for pipeline, bells in wakeups.queue_depths(settings, pipelines).items():
            if bells == 0:
                slices = _claimable_slice_ids(database, pipeline)
                wakeups.send_wakeups(settings, pipeline, slices)
                said.append(f"{pipeline} ({len(slices):,} slices)")
    except Unreachable:
        pass  # workers look at SQL by themselves, and `batchmill doctor` tells of Redis
    return f"rang anew: {', '.join(said)}" if said else ""


def _claimable_slice_ids(database: Database, pipeline: str) -> list[int]:
    found: list[int] = []
    with database.read() as connection:
        for which in (claim_order.QUEUED_ORDINARY, claim_order.QUEUED_QUARANTINED):
            query = text(
                SELECT_CLAIMABLE_SLICES.format(
                    which=which, now=database.sql.now, order=", ".join(claim_order.CLAIM_ORDER_COLUMNS)
                )
            )
            found += connection.scalars(query, {"pipeline": pipeline, "most": MAX_WAKEUPS - len(found)})
    return found
