"""Statistics that `doctor` reads from the database; all ages are by the database's clock."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import column, literal_column, select, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.lifecycle.claim_order import IS_AVAILABLE
from models.tables.workers import MaintenanceTaskRow

SELECT_SERVER_INFO = {
    "postgresql": "SELECT current_setting('server_version') AS version, pg_database_size(current_database()) AS bytes",
    "sqlite": "SELECT sqlite_version() AS version, 0 AS bytes",
}
DATABASE_NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}

COUNT_BACKLOG = f"""
SELECT b.pipeline, b.revision,
       count(*) FILTER (WHERE s.state = 'queued' AND {IS_AVAILABLE}) AS queued,
       count(*) FILTER (WHERE s.state = 'queued' AND s.available_at > {{now}}) AS deferred,
       count(*) FILTER (WHERE s.state = 'leased') AS leased,
       count(*) FILTER (WHERE s.state = 'leased' AND s.lease_expires_at < {{later}}) AS lease_expired
FROM batches b JOIN slices s ON s.batch_id = b.id AND s.state IN ('queued', 'leased')
WHERE b.status = 'in_progress'
GROUP BY b.pipeline, b.revision ORDER BY b.pipeline, b.revision
"""  # noqa: S608

# Batches in progress have slices to claim, or soon will.
SELECT_NEEDED_GUARDS = """
SELECT DISTINCT b.pipeline, g.guard FROM batches b JOIN batch_guards g ON g.batch_id = b.id
WHERE b.status = 'in_progress' AND b.guarded ORDER BY b.pipeline, g.guard
"""

# All slices of a cancelling batch were revoked when its termination began. The batch of a run that waits for its
# source, or for an earlier run, is left out: the findings on schedules have it.
SELECT_TRANSITIONING = """
SELECT id, status, {now} AS now, CASE status
       WHEN 'validating' THEN coalesce(holder_heartbeat_at, created_at)
       WHEN 'in_progress' THEN coalesce(holder_heartbeat_at, created_at)
       ELSE coalesce(cancelling_at, (SELECT max(s.done_at) FROM slices s WHERE s.batch_id = b.id), created_at)
       END AS since, CASE WHEN read_request IS NULL THEN 0 ELSE 1 END AS awaits_reading
FROM batches b
WHERE status = 'cancelling' OR (status = 'in_progress' AND ingesting) OR (status = 'validating' AND NOT EXISTS (
    SELECT 1 FROM runs r WHERE r.batch_id = b.id AND r.state = 'waiting'))
ORDER BY id LIMIT 1000
"""


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """The database server; `clock_ahead_seconds` is how far its clock is ahead of ours."""

    kind: str
    version: str
    size_bytes: int
    clock_ahead_seconds: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """One pipeline's unfinished slices, of batches with the same revision; None = not resolved yet."""

    pipeline: str
    revision: str | None
    queued: int  # claimable now
    deferred: int  # until the end of their backoff
    leased: int
    lease_expired: int  # leased ones whose lease expired long ago


@dataclass(frozen=True, slots=True)
class TransitioningBatch:
    """A batch that is `validating`, ingesting or `cancelling`, and the time since its last progress.

    awaits_reading: a server or a worker has still to read its file
    """

    batch_id: str
    status: str
    idle_seconds: float
    awaits_reading: bool = False


@dataclass(frozen=True, slots=True)
class MaintenanceTaskView:
    """When a maintenance task last ran, its last effect and its last failure.

    failures_in_a_row: 0 if the last run succeeded
    last_failure: the reason of the last failure, or the name of an unexpected exception
    """

    name: str
    overdue_seconds: float  # below 0: time until it is due
    last_run_seconds_ago: float | None
    last_effect_seconds_ago: float | None
    last_effect: str | None
    last_failed_seconds_ago: float | None = None
    last_failure: str | None = None
    failures_in_a_row: int = 0


def get_server(database: Database) -> DatabaseServer:
    """Return the database's version, size and clock; raises Unreachable."""
    dialect = database.engine.dialect.name
    before = datetime.now(UTC)
    with database.read() as connection:
        now = connection.execute(select(literal_column(database.sql.now, UtcDateTime))).scalar_one()
        after = datetime.now(UTC)
        row = connection.execute(text(SELECT_SERVER_INFO[dialect])).one()
    size = row.bytes if dialect == "postgresql" else _file_bytes(str(database.engine.url.database))
    ahead = (now - (before + (after - before) / 2)).total_seconds()
    return DatabaseServer(DATABASE_NAMES[dialect], row.version.split()[0], size, ahead)


def list_needed_guards(database: Database) -> dict[str, list[str]]:
    """Return the guards that the batches in progress need, by pipeline."""
    needed: dict[str, list[str]] = {}
    with database.read() as connection:
        for pipeline, guard in connection.execute(text(SELECT_NEEDED_GUARDS)):
            needed.setdefault(pipeline, []).append(guard)
    return needed


def list_backlogs(database: Database, expired_after_seconds: float) -> list[Backlog]:
    """Return the unfinished slices by pipeline and revision.

    expired_after_seconds: time after a lease's expiry from which it counts as `lease_expired`
    """
    query = text(COUNT_BACKLOG.format(now=database.sql.now, later=database.sql.now_plus_seconds))
    with database.read() as connection:
        return [Backlog(*row) for row in connection.execute(query, {"seconds": -expired_after_seconds})]


def list_transitioning_batches(database: Database) -> list[TransitioningBatch]:
    """Return the batches that are being read or terminated, the oldest first."""
    query = text(SELECT_TRANSITIONING.format(now=database.sql.now)).columns(
        column("id"), column("status"), column("now", UtcDateTime), column("since", UtcDateTime)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [
        TransitioningBatch(row.id, row.status, (row.now - row.since).total_seconds(), bool(row.awaits_reading))
        for row in rows
    ]


def list_maintenance_tasks(database: Database) -> list[MaintenanceTaskView]:
    """Return every maintenance task that ever ran."""
    now = literal_column(database.sql.now, UtcDateTime).label("now")
    with database.read() as connection:
        rows = connection.execute(select(*MaintenanceTaskRow.__table__.c, now).order_by(MaintenanceTaskRow.name)).all()
    return [_task_from_row(row) for row in rows]


def _task_from_row(row: Any) -> MaintenanceTaskView:
    def seconds_since(timestamp: datetime | None) -> float | None:
        return None if timestamp is None else (row.now - timestamp).total_seconds()

    return MaintenanceTaskView(
        name=row.name,
        overdue_seconds=(row.now - row.next_run_at).total_seconds(),
        last_run_seconds_ago=seconds_since(row.last_run_at),
        last_effect_seconds_ago=seconds_since(row.last_effect_at),
        last_effect=row.last_effect,
        last_failed_seconds_ago=seconds_since(row.last_failed_at),
        last_failure=row.last_failure,
        failures_in_a_row=row.failures_in_a_row,
    )


def _file_bytes(path: str) -> int:
    return sum(file.stat().st_size for suffix in ("", "-wal") if (file := Path(path + suffix)).exists())
