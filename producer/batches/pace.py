"""How long workers worked on a batch, without the time in which nobody did, and the pace that results."""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, text

from models.db import SQL_FRAGMENTS

# The union of all claims. A claim lasts from `leased_at` until its slice is done, or until the outcome in `attempts`.
# Claims of a process that crashed end with their lease at the latest.
SUM_WORKING_SECONDS = """
WITH claims AS (
    SELECT batch_id, leased_at AS began, CASE WHEN state = 'done' THEN done_at WHEN lease_expires_at < {now}
           THEN lease_expires_at ELSE {now} END AS ended,
           CASE WHEN state = 'leased' AND lease_expires_at > {now} THEN 1 ELSE 0 END AS running
    FROM slices s WHERE batch_id IN :batch_ids AND leased_at IS NOT NULL AND state IN ('leased', 'done')
    AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.batch_id = s.batch_id AND a.slice_id = s.id
                    AND s.state = 'done' AND a.claimed_at = s.leased_at)
    UNION ALL
    SELECT batch_id, claimed_at, ended_at, 0 FROM attempts WHERE batch_id IN :batch_ids AND claimed_at IS NOT NULL
), ordered AS (
    SELECT batch_id, began, ended, running, max(ended) OVER (
        PARTITION BY batch_id ORDER BY began, ended ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS covered
    FROM claims WHERE ended >= began
)
SELECT batch_id, max(running) AS running, sum(CASE WHEN covered IS NULL OR covered <= began THEN {seconds_of_claim}
       WHEN covered < ended THEN {seconds_uncovered} ELSE 0 END) AS seconds
FROM ordered GROUP BY batch_id
"""

MIN_SECONDS = 0.001  # the resolution of SQLite's clock

SECONDS_BETWEEN = {
    "postgresql": "EXTRACT(EPOCH FROM ended - {start})",
    "sqlite": "(julianday(ended) - julianday({start})) * 86400",
}


class WorkingTime(NamedTuple):
    """The seconds in which at least one worker held jobs of a batch, and whether one does now."""

    seconds: float
    is_running: bool


def working_times(connection: Connection, batch_ids: Iterable[str]) -> dict[str, WorkingTime]:
    """Return the working time of these batches; those that nobody has claimed are left out."""
    batch_ids, dialect = list(batch_ids), connection.dialect.name
    if not batch_ids:
        return {}
    query = SUM_WORKING_SECONDS.format(
        now=SQL_FRAGMENTS[dialect].now,
        seconds_of_claim=SECONDS_BETWEEN[dialect].format(start="began"),
        seconds_uncovered=SECONDS_BETWEEN[dialect].format(start="covered"),
    )
    rows = connection.execute(text(query).bindparams(bindparam("batch_ids", expanding=True)), {"batch_ids": batch_ids})
    return {
        row.batch_id: WorkingTime(max(MIN_SECONDS, round(float(row.seconds), 3)), bool(row.running)) for row in rows
    }


def jobs_per_second(answered_jobs: int, working_seconds: float) -> float | None:
    """Return the pace of a batch's jobs over its working time; None before there is a result."""
    if not answered_jobs or working_seconds <= 0:
        return None
    return answered_jobs / working_seconds
