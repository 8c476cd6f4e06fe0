"""How long workers worked on a batch, without the time in which nobody did, and the pace that results."""

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from sqlalchemy import Connection, TextClause, bindparam, text

from models.dialects.fragments import SQL_FRAGMENTS

# The union of all claims. A claim lasts from `leased_at` until its slice is done, or until the outcome in `attempts`,
# where there is one: a slice that waited in the queue may be done because its batch was cancelled. Claims of a process
# that crashed end with their lease at the latest.
SUM_WORKING_SECONDS = """
WITH records AS (
    SELECT batch_id, id AS slice_id, leased_at AS began, CASE WHEN state = 'done' THEN done_at
           WHEN lease_expires_at < {now} THEN lease_expires_at ELSE {now} END AS ended, 0 AS attempted,
           CASE WHEN state = 'leased' THEN 1 ELSE 0 END AS leased,
           CASE WHEN state = 'leased' AND lease_expires_at > {now} THEN 1 ELSE 0 END AS running
    FROM slices WHERE batch_id IN :batch_ids AND leased_at IS NOT NULL AND state IN ('leased', 'done')
    UNION ALL
    SELECT batch_id, slice_id, claimed_at, ended_at, 1, 0, 0
    FROM attempts WHERE batch_id IN :batch_ids AND claimed_at IS NOT NULL
), claims AS (
    SELECT batch_id, began, max(running) AS running, CASE WHEN max(attempted) = 1 AND max(leased) = 0
           THEN max(CASE WHEN attempted = 1 THEN ended END) ELSE max(ended) END AS ended
    FROM records GROUP BY batch_id, slice_id, began
), ordered AS (
    SELECT batch_id, began, ended, running, max(ended) OVER (
        PARTITION BY batch_id ORDER BY began, ended ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS covered
    FROM claims WHERE ended >= began
)
SELECT batch_id, max(running) AS running, sum(CASE WHEN covered IS NULL OR covered <= began THEN {seconds_of_claim}
       WHEN covered < ended THEN {seconds_uncovered} ELSE 0 END) AS seconds
FROM ordered GROUP BY batch_id
"""

# The failed jobs of a batch that a worker had claimed: not its invalid rows, nor jobs whose model can't be used.
# Of many failures the first show the share of these, so that each poll reads only a few pages.
MAX_FAILURES = 500
COUNT_CLAIMED_FAILURES = """
(CASE WHEN batches.failed > 0 THEN (
    SELECT coalesce(batches.failed * count(f.slice_id) / nullif(count(*), 0), 0) FROM (
        SELECT slice_id FROM results{hint} WHERE batch_id = batches.id AND status = 'failed'
        ORDER BY position LIMIT {limit}) AS f) ELSE 0 END)
"""

# For every query of failed results: SQLite considers a scan of all results cheaper than their index.
FAILURES_HINT = {"postgresql": "", "sqlite": " INDEXED BY results_failed"}

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
    rows = connection.execute(_working_query(dialect), {"batch_ids": batch_ids})
    return {
        row.batch_id: WorkingTime(max(MIN_SECONDS, round(float(row.seconds), 3)), bool(row.running)) for row in rows
    }


@cache  # SQLAlchemy reads the text for parameters each time that it is built
def _working_query(dialect: str) -> TextClause:
    query = SUM_WORKING_SECONDS.format(
        now=SQL_FRAGMENTS[dialect].now,
        seconds_of_claim=SECONDS_BETWEEN[dialect].format(start="began"),
        seconds_uncovered=SECONDS_BETWEEN[dialect].format(start="covered"),
    )
    return text(query).bindparams(bindparam("batch_ids", expanding=True))


def count_claimed_failures(dialect: str) -> str:
    """The SQL expression for how many jobs of a row of `batches` failed after a worker had claimed them."""
    return COUNT_CLAIMED_FAILURES.format(hint=FAILURES_HINT[dialect], limit=MAX_FAILURES)


def jobs_per_second(answered_jobs: int, working_seconds: float) -> float | None:
    """Return the pace of a batch's jobs over its working time; None before there is a result."""
    if not answered_jobs or working_seconds <= 0:
        return None
    return answered_jobs / working_seconds
