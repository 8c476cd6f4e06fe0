"""Lost wakeups are sent again where SQL has work and Redis has no wakeup, because Redis may lose everything."""

from sqlalchemy import text

from models.db import Database
from models.errors import Unreachable
from models.lifecycle import claim_order, wakeups
from models.settings import Settings

MAX_WAKEUPS = 20_000  # of one pipeline in a run; the rest follows when Redis has none of these left
MIN_BATCH_AGE_SECONDS = 2.0  # the submitter of a younger batch is still sending its wakeups

# The recursion jumps from one pipeline to the next, so the number of batches does not matter.
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
pipeline = names.pipeline AND (available_at IS NULL OR available_at <= {now})
AND (SELECT b.status = 'in_progress' AND b.in_progress_at <= {later} FROM batches b WHERE b.id = slices.batch_id)
"""

SELECT_CLAIMABLE_SLICES = """
SELECT id FROM slices WHERE {which} AND pipeline = :pipeline AND (available_at IS NULL OR available_at <= {now})
  AND (SELECT b.status = 'in_progress' FROM batches b WHERE b.id = slices.batch_id)
ORDER BY {order} LIMIT :most
"""


def resend_lost_wakeups(database: Database, settings: Settings) -> str:
    """Send a wakeup for every claimable slice of pipelines that have none on Redis; returns a sentence, or ""."""
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
    resent = []
    try:
        for pipeline, depth in wakeups.queue_depths(settings, pipelines).items():
            if depth == 0:
                slice_ids = _claimable_slice_ids(database, pipeline)
                wakeups.send_wakeups(settings, pipeline, slice_ids)
                resent.append(f"{pipeline} ({len(slice_ids):,} slices)")
    except Unreachable:
        pass  # workers poll SQL anyway, and `batchmill doctor` reports Redis
    return f"wakeups resent: {', '.join(resent)}" if resent else ""


def _claimable_slice_ids(database: Database, pipeline: str) -> list[int]:
    slice_ids: list[int] = []
    with database.read() as connection:
        for which in (claim_order.QUEUED_ORDINARY, claim_order.QUEUED_QUARANTINED):
            query = text(
                SELECT_CLAIMABLE_SLICES.format(
                    which=which, now=database.sql.now, order=", ".join(claim_order.CLAIM_ORDER_COLUMNS)
                )
            )
            slice_ids += connection.scalars(query, {"pipeline": pipeline, "most": MAX_WAKEUPS - len(slice_ids)})
    return slice_ids
