"""Lost wakeups are sent again where SQL has work and Redis has no wakeup, because Redis may lose everything."""

from sqlalchemy import text

from models.db import Database
from models.errors import Unreachable
from models.lifecycle import claim_order, wakeups
from models.settings import Settings

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

IS_OLD_ENOUGH = f"""
pipeline = names.pipeline AND {claim_order.IS_AVAILABLE}
AND (SELECT b.status = 'in_progress' AND b.in_progress_at <= {{later}} FROM batches b WHERE b.id = slices.batch_id)
"""  # noqa: S608

# Ordered only so that every planner reads the index of the claim order, and no further than the limit.
COUNT_CLAIMABLE_SLICES = f"""
SELECT count(*) FROM (
    SELECT 1 FROM slices WHERE {{which}} AND pipeline = :pipeline AND {claim_order.IS_AVAILABLE}
      AND (SELECT b.status = 'in_progress' FROM batches b WHERE b.id = slices.batch_id)
    ORDER BY tenant, {", ".join(claim_order.CLAIM_ORDER_COLUMNS)} LIMIT :max_slices) AS claimable
"""  # noqa: S608


def resend_lost_wakeups(database: Database, settings: Settings) -> str:
    """Send wakeups for the claimable slices of pipelines that have none on Redis; returns a sentence, or ""."""
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
                count = _count_claimable_slices(database, pipeline)
                if count:  # otherwise workers that poll have claimed all since the first query
                    wakeups.send_wakeups(settings, pipeline, count)
                    resent.append(f"{count:,} for {pipeline}")
    except Unreachable:
        pass  # workers poll SQL anyway, and `batchmill doctor` reports Redis
    return f"wakeups resent: {', '.join(resent)}" if resent else ""


def _count_claimable_slices(database: Database, pipeline: str) -> int:
    """The number of the pipeline's claimable slices, at most MAX_WAKEUPS."""
    params = {"pipeline": pipeline, "max_slices": wakeups.MAX_WAKEUPS}
    with database.read() as connection:
        total = 0
        for which in (claim_order.QUEUED_ORDINARY, claim_order.QUEUED_QUARANTINED):
            query = text(COUNT_CLAIMABLE_SLICES.format(which=which, now=database.sql.now))
            total += connection.execute(query, params).scalar_one()
    return min(total, wakeups.MAX_WAKEUPS)
