"""The numbers of the whole deployment, read from SQL for one scrape. Open work bounds each query, not history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from models import clock
from models.db import Database
from models.dialects.columns import UtcDateTime
from models.settings import Settings
from producer.schedules import metrics as schedule_metrics
from producer.schedules.metrics import ScheduleMetrics
from producer.workers import backlog, workers
from producer.workers.backlog import PipelineBacklog

GONE = "gone"  # the state of a worker without heartbeats

SELECT_NEXT_DEADLINES = """
SELECT pipeline, min(expires_at) AS expires_at, {now} AS now FROM batches
WHERE status = 'in_progress' AND expires_at IS NOT NULL GROUP BY pipeline
"""
SELECT_MAINTENANCE_FAILURES = "SELECT name, failures_in_a_row FROM maintenance_tasks ORDER BY name"
COUNT_UNDELIVERED = """
SELECT 'schedule', count(*) FROM events WHERE next_delivery_at IS NOT NULL AND delivery_attempts > 0
UNION ALL
SELECT 'batch', count(*) FROM batch_events WHERE next_delivery_at IS NOT NULL AND delivery_attempts > 0
"""


@dataclass(frozen=True, slots=True)
class DatabaseNumbers:
    """The numbers at one moment.

    seconds_to_deadline: until the nearest deadline of an open batch, by pipeline; negative once it has passed
    worker_counts: worker processes by pipeline and state
    maintenance_failures: failures in a row, by task
    undelivered: events of webhooks that were tried in vain and will be sent again, by kind
    """

    backlogs: Mapping[str, PipelineBacklog]
    seconds_to_deadline: Mapping[str, float]
    worker_counts: Mapping[tuple[str, str], int]
    maintenance_failures: Mapping[str, int]
    undelivered: Mapping[str, int]
    schedules: Sequence[ScheduleMetrics]


def read_numbers(database: Database, settings: Settings) -> DatabaseNumbers:
    """Read the numbers; raises Unreachable."""
    backlogs = backlog.count_backlogs(database)
    with database.read() as connection:
        deadlines = _select_deadlines(connection, database.sql.now)
        failures = _select_pairs(connection, SELECT_MAINTENANCE_FAILURES)
        undelivered = _select_pairs(connection, COUNT_UNDELIVERED)
    return DatabaseNumbers(
        backlogs,
        {row.pipeline: (row.expires_at - row.now).total_seconds() for row in deadlines},
        _count_workers(database, settings.lease_seconds),
        failures,
        undelivered,
        schedule_metrics.collect(database, clock.clock_for(settings, database)()),
    )


def _select_deadlines(connection: Connection, now: str) -> Sequence[Row[Any]]:
    query = text(SELECT_NEXT_DEADLINES.format(now=now)).columns(expires_at=UtcDateTime, now=UtcDateTime)
    return connection.execute(query).all()


def _select_pairs(connection: Connection, query: str) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(text(query))}


def _count_workers(database: Database, lease_seconds: float) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for worker in workers.list_workers(database, lease_seconds):
        key = (worker.pipeline, worker.state if worker.alive else GONE)
        counts[key] = counts.get(key, 0) + 1
    return counts
