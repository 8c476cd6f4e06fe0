"""Reads the facts from which `attention` decides. Each query is bounded, whatever the number of batches."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, column, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.states import BatchStatus
from producer.activity import failures
from producer.activity.attention import GUARD_BLOCKED, Facts, OpenDeadline, StuckBatch, TroubledBatch
from producer.activity.backlog_views import BacklogView
from producer.activity.minutes import MAX_MINUTES
from producer.activity.tenants import of_tenant
from producer.activity.throughput import Throughput
from producer.batches.blockers import LoadFailureView
from producer.schedules import status
from producer.schedules.status import ScheduleStatus
from producer.workers.workers import WorkerView

NEWEST_BATCHES = 1_000  # of those with failures; older ones have ended long ago
MAX_BATCHES = 100
STUCK_CODES = ("other_revision", "guard_missing")  # of batches that wait until a person acts; others pass

# By an index of batches with failures, however many others are newer. Its condition is the one of the index.
SELECT_TROUBLED = """
SELECT id, name, pipeline, status, total, failed, error_code FROM (
    SELECT id, name, pipeline, status, total, failed, error_code, created_at,
           coalesce(completed_at, failed_at, expired_at, cancelled_at) AS ended_at
    FROM batches WHERE (has_failures OR status IN ('failed', 'expired')) {of_tenant}
    ORDER BY created_at DESC, id DESC LIMIT :newest
) AS newest
WHERE status NOT IN ('deleting', 'cancelled') AND (ended_at IS NULL OR ended_at >= {later})
ORDER BY created_at DESC, id DESC LIMIT :limit
"""
# The sign keeps SQLite from reading all batches of the tenant by their index.
OF_TENANT = {"postgresql": "AND tenant = :tenant", "sqlite": "AND +tenant = :tenant"}

SELECT_DEADLINES = """
SELECT id, name, pipeline, total - succeeded - failed - cancelled - expired AS unanswered, expires_at, {now} AS now
FROM batches WHERE status = 'in_progress' AND expires_at IS NOT NULL {of_tenant} ORDER BY expires_at LIMIT :limit
"""
SELECT_MAINTENANCE_FAILURES = """
SELECT name, failures_in_a_row FROM maintenance_tasks WHERE failures_in_a_row > 0 ORDER BY name
"""


def read_facts(
    database: Database,
    now: datetime,
    backlogs: Sequence[BacklogView],
    fleet: tuple[Sequence[WorkerView], Sequence[LoadFailureView]],
    throughput: Throughput,
    tenant: str | None = None,
) -> Facts:
    """Read what `decide_attention` needs besides what its caller has read.

    now: by the clock of the schedules
    fleet: the workers, and what they can't load
    tenant: to whom things must belong; a tenant's facts have no workers, for they are the operator's
    """
    workers, load_failures = fleet
    with database.read() as connection:
        batches = _select_troubled(connection, database, tenant)
        deadlines = _select_deadlines(connection, database, tenant)
        maintenance = _select_maintenance_failures(connection) if tenant is None else {}
    schedules, unreadable = _read_schedules(database, now, tenant)
    return Facts(
        now,
        unserved=[
            (item.pipeline, item.backlog.unanswered_jobs)
            for item in backlogs
            if not item.workers and item.backlog.unanswered_jobs
        ],
        stuck=_find_stuck(backlogs),
        workers=workers if tenant is None else (),
        load_failures=load_failures if tenant is None else (),
        batches=batches,
        deadlines=deadlines,
        paces={item.pipeline: item.jobs_per_second for item in throughput.pipelines if item.jobs_per_second},
        blocked=failures.count_failures(database, MAX_MINUTES, tenant, GUARD_BLOCKED),
        schedules=schedules,
        unreadable_schedules=unreadable,
        maintenance_failures=maintenance,
    )


def _find_stuck(backlogs: Sequence[BacklogView]) -> list[StuckBatch]:
    """The batches that no worker can run; what stops them is about the batch, so tenants may read it."""
    return [
        StuckBatch(item.batch_id, item.pipeline, reason.message)
        for item in backlogs
        if item.batch_id is not None
        for reason in item.reasons[:1]
        if reason.code in STUCK_CODES
    ]


def _select_troubled(connection: Connection, database: Database, tenant: str | None) -> list[TroubledBatch]:
    condition = "" if tenant is None else OF_TENANT[connection.dialect.name]
    params = {} if tenant is None else {"tenant": tenant}
    query = SELECT_TROUBLED.format(of_tenant=condition, later=database.sql.now_plus_seconds)
    bounds = {"newest": NEWEST_BATCHES, "limit": MAX_BATCHES, "seconds": -86_400.0}
    return [
        TroubledBatch(row.id, row.name, row.pipeline, BatchStatus(row.status), row.total, row.failed, row.error_code)
        for row in connection.execute(text(query), {**bounds, **params})
    ]


def _select_deadlines(connection: Connection, database: Database, tenant: str | None) -> list[OpenDeadline]:
    condition, params = of_tenant(tenant)
    names = ("id", "name", "pipeline", "unanswered")
    query = text(SELECT_DEADLINES.format(of_tenant=condition, now=database.sql.now)).columns(
        *map(column, names), column("expires_at", UtcDateTime), column("now", UtcDateTime)
    )
    rows: Sequence[Row[Any]] = connection.execute(query, {"limit": MAX_BATCHES, **params}).all()
    return [
        OpenDeadline(row.id, row.name, row.pipeline, row.unanswered, (row.expires_at - row.now).total_seconds())
        for row in rows
    ]


def _select_maintenance_failures(connection: Connection) -> Mapping[str, int]:
    return {row.name: row.failures_in_a_row for row in connection.execute(text(SELECT_MAINTENANCE_FAILURES))}


def _read_schedules(
    database: Database, now: datetime, tenant: str | None
) -> tuple[Sequence[ScheduleStatus], str | None]:
    statuses, unreadable = status.list_readable(database, now, tenant)
    return statuses, unreadable[0].problem if unreadable else None  # another version has written these
