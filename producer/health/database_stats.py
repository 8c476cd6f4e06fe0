"""Vitals: what the tables say of how the work goes. Reading only; ages are by the database's clock."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import column, literal_column, select, text

from models.columns import UtcDateTime
from models.db import Database
from models.tables import MaintenanceTaskRow

SELECT_SERVER_INFO = {
    "postgresql": "SELECT current_setting('server_version') AS version, pg_database_size(current_database()) AS bytes",
    "sqlite": "SELECT sqlite_version() AS version, 0 AS bytes",
}
DATABASE_NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}

COUNT_BACKLOG = """
SELECT b.pipeline, b.revision,
       count(*) FILTER (WHERE s.state = 'queued' AND (s.not_before IS NULL OR s.not_before <= {now})) AS queued,
       count(*) FILTER (WHERE s.state = 'queued' AND s.not_before > {now}) AS put_off,
       count(*) FILTER (WHERE s.state = 'leased') AS leased,
       count(*) FILTER (WHERE s.state = 'leased' AND s.lease_expires_at < {later}) AS lapsed
FROM batches b JOIN slices s ON s.batch_id = b.id AND s.state IN ('queued', 'leased')
WHERE b.status = 'in_progress'
GROUP BY b.pipeline, b.revision ORDER BY b.pipeline, b.revision
"""

# All slices of a batch that is cancelling were taken away in the moment it began.
SELECT_TRANSITIONING = """
SELECT id, status, {now} AS now, CASE status
       WHEN 'validating' THEN coalesce(heard_at, created_at)
       WHEN 'in_progress' THEN coalesce(heard_at, created_at)
       ELSE coalesce(cancelling_at, (SELECT max(s.done_at) FROM slices s WHERE s.batch_id = b.id), created_at)
       END AS since
FROM batches b
WHERE status IN ('validating', 'cancelling') OR (status = 'in_progress' AND reading) ORDER BY id LIMIT 1000
"""


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """The database itself; `ahead_seconds` is how far its clock is ahead of ours."""

    kind: str
    version: str
    size_bytes: int
    clock_ahead_seconds: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """One pipeline's slices that are not done, of batches with one revision (None: not settled yet)."""

    pipeline: str
    revision: str | None
    queued: int  # claimable now
    deferred: int  # until their backoff is over
    leased: int
    lease_expired: int  # of those leased, whose lease ran out long ago


@dataclass(frozen=True, slots=True)
class TransitioningBatch:
    """A batch that is `validating`, read on or `cancelling`, and how long nothing was heard of that."""

    batch_id: str
    status: str
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class MaintenanceTaskView:
    """When a duty was done last, and what it did when it last had something to do."""

    name: str
    overdue_seconds: float  # below 0: until it is due
    last_run_seconds_ago: float | None
    last_effect_seconds_ago: float | None
    last_effect: str | None
    last_failure: str | None = None  # what its last turn ended with, which is no error of ours


def get_server(database: Database) -> DatabaseServer:
    """What the database is; raises Unreachable."""
    dialect = database.engine.dialect.name
    before = datetime.now(UTC)
    with database.read() as connection:
        now = connection.execute(select(literal_column(database.sql.now, UtcDateTime))).scalar_one()
        after = datetime.now(UTC)
        row = connection.execute(text(SELECT_SERVER_INFO[dialect])).one()
    size = row.bytes if dialect == "postgresql" else _file_bytes(str(database.engine.url.database))
    ahead = (now - (before + (after - before) / 2)).total_seconds()
    return DatabaseServer(DATABASE_NAMES[dialect], row.version.split()[0], size, ahead)


def list_backlogs(database: Database, expired_after_seconds: float) -> list[Backlog]:
    """What waits and what is out, by pipeline and revision; a lease counts as lapsed after so many seconds."""
    query = text(COUNT_BACKLOG.format(now=database.sql.now, later=database.sql.now_plus_seconds))
    with database.read() as connection:
        return [Backlog(*row) for row in connection.execute(query, {"seconds": -expired_after_seconds})]


def list_transitioning_batches(database: Database) -> list[TransitioningBatch]:
    """Batches on their way in or to an early end, the oldest first."""
    query = text(SELECT_TRANSITIONING.format(now=database.sql.now)).columns(
        column("id"), column("status"), column("now", UtcDateTime), column("since", UtcDateTime)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [TransitioningBatch(row.id, row.status, (row.now - row.since).total_seconds()) for row in rows]


def list_maintenance_tasks(database: Database) -> list[MaintenanceTaskView]:
    """Every duty that anybody ever had a turn for."""
    now = literal_column(database.sql.now, UtcDateTime).label("now")
    with database.read() as connection:
        rows = connection.execute(select(*MaintenanceTaskRow.__table__.c, now).order_by(MaintenanceTaskRow.name)).all()
    return [_task_from_row(row) for row in rows]


def _task_from_row(row: Any) -> MaintenanceTaskView:
    def ago(moment: datetime | None) -> float | None:
        return None if moment is None else (row.now - moment).total_seconds()

    overdue = (row.now - row.due_at).total_seconds()
    fails = row.failed_at is not None and (row.ran_at is None or row.failed_at >= row.ran_at)
    return MaintenanceTaskView(
        row.name, overdue, ago(row.ran_at), ago(row.acted_at), row.acted, row.failure if fails else None
    )


def _file_bytes(path: str) -> int:
    return sum(file.stat().st_size for suffix in ("", "-wal") if (file := Path(path + suffix)).exists())
