"""Worker processes, as the table `workers` has them; ages are by the database's clock."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import literal_column, select, text

from models.columns import UtcDateTime
from models.db import Database
from models.tables import Worker
from producer.batches.views import BatchView

GONE_AFTER_LEASES = 3  # a process that was silent for so many leases is not there any more
MAX_SCHEDULE_CHECK_AGE_SECONDS = 60.0  # since the duty's last turn, of which there is one every few seconds

FIND_RECENT_SCHEDULE_CHECK = "SELECT 1 FROM duties WHERE name = 'schedules' AND ran_at > {later} AND ran_at <= {now}"


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One process at one moment."""

    id: str
    host: str
    pid: int
    device: str
    pipeline: str
    model: str
    revision: str | None
    serves: list[str]
    state: str
    state_seconds: float  # since it is in this state
    uptime_seconds: float
    heartbeat_seconds_ago: float
    alive: bool

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill workers --json` prints it."""
        return {
            "id": self.id,
            "object": "worker",
            "host": self.host,
            "pid": self.pid,
            "device": self.device,
            "pipeline": self.pipeline,
            "model": self.model,
            "revision": self.revision,
            "serves": self.serves,
            "state": self.state,
            "alive": self.alive,
            "state_seconds": round(self.state_seconds, 1),
            "uptime_seconds": round(self.uptime_seconds, 1),
            "heartbeat_seconds_ago": round(self.heartbeat_seconds_ago, 1),
        }


def list_workers(database: Database, lease_seconds: float) -> list[WorkerView]:
    """Every process that has not signed off, by pipeline; a silent one is listed as not alive."""
    now = literal_column(database.sql.now, UtcDateTime).label("now")
    query = select(*Worker.__table__.c, now).order_by(Worker.pipeline, Worker.host, Worker.device, Worker.id)
    with database.read() as connection:
        return [_view_from_row(row, lease_seconds) for row in connection.execute(query)]


def other_revisions(workers: Iterable[WorkerView], batch: BatchView) -> set[str]:
    """The revisions that a batch's workers have, where none has the batch's own: then the batch waits for one."""
    if batch.status.has_ended or batch.revision is None:
        return set()
    revisions = {worker.revision for worker in workers if worker.alive and worker.pipeline == batch.pipeline}
    return set() if batch.revision in revisions else {revision for revision in revisions if revision}


def count_serving_workers(database: Database, pipeline: str, lease_seconds: float) -> int:
    """How many processes answer this pipeline's bells now."""
    return sum(worker.alive and pipeline in worker.serves for worker in list_workers(database, lease_seconds))


def schedules_are_served(database: Database) -> bool:
    """Whether a worker or a foreman looks after schedules: its last turn was a short while ago."""
    query = text(FIND_RECENT_SCHEDULE_CHECK.format(now=database.sql.now, later=database.sql.now_plus_seconds))
    with database.read() as connection:
        return connection.scalar(query, {"seconds": -MAX_SCHEDULE_CHECK_AGE_SECONDS}) is not None


def _view_from_row(row: Any, lease_seconds: float) -> WorkerView:
    # A beat from the future is of before the database's clock stepped back: it says no more than one as long ago.
    silent = abs((row.now - row.heartbeat_at).total_seconds())
    return WorkerView(
        id=row.id,
        host=row.host,
        pid=row.pid,
        device=row.device,
        pipeline=row.pipeline,
        model=row.model,
        revision=row.revision,
        serves=row.serves,
        state=row.state,
        state_seconds=max(0.0, (row.now - (row.state_since or row.started_at)).total_seconds()),
        uptime_seconds=max(0.0, (row.now - row.started_at).total_seconds()),
        heartbeat_seconds_ago=silent,
        alive=silent < GONE_AFTER_LEASES * lease_seconds,
    )
