"""Worker processes as the table `workers` lists them; ages are by the database's clock."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import literal_column, select, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.states import BatchStatus
from models.tables.workers import Worker

GONE_AFTER_LEASES = 3  # a process without heartbeats for this many leases counts as gone
MAX_SCHEDULE_CHECK_AGE_SECONDS = 60.0  # the maintenance task runs every few seconds

FIND_RECENT_SCHEDULE_CHECK = (
    "SELECT 1 FROM maintenance_tasks WHERE name = 'schedules' AND last_run_at > {later} AND last_run_at <= {now}"
)


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker process as it was at one moment."""

    id: str
    host: str
    pid: int
    device: str
    pipeline: str
    model: str
    revision: str | None
    served_pipelines: list[str]
    state: str
    state_seconds: float  # time in this state
    uptime_seconds: float
    heartbeat_seconds_ago: float
    alive: bool
    settings_hashes: Mapping[str, str] = field(default_factory=dict)  # of served pipelines, as the worker read them
    guards: Mapping[str, Sequence[str]] = field(default_factory=dict)  # names, by pipeline that has any

    def serves(self, pipeline: str) -> bool:
        """Whether jobs of a pipeline are its work, also while it has another one's model loaded."""
        return pipeline in (self.pipeline, *self.served_pipelines)

    def missing_guards(self, pipeline: str, needed: Collection[str]) -> set[str]:
        """The needed guards that this worker does not apply in a pipeline; with any it can't claim the batch."""
        return set(needed).difference(self.guards.get(pipeline, ()))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `batchmill workers --json` prints."""
        return {
            "id": self.id,
            "object": "worker",
            "host": self.host,
            "pid": self.pid,
            "device": self.device,
            "pipeline": self.pipeline,
            "model": self.model,
            "revision": self.revision,
            "served_pipelines": self.served_pipelines,
            "state": self.state,
            "alive": self.alive,
            "state_seconds": round(self.state_seconds, 1),
            "uptime_seconds": round(self.uptime_seconds, 1),
            "heartbeat_seconds_ago": round(self.heartbeat_seconds_ago, 1),
        }


class WaitingBatch(Protocol):
    """A batch, as far as the question needs it who can claim it."""

    @property
    def pipeline(self) -> str:
        """Its pipeline."""

    @property
    def revision(self) -> str | None:
        """The revision with which it began; None before."""

    @property
    def status(self) -> BatchStatus:
        """Its status."""


def list_workers(database: Database, lease_seconds: float) -> list[WorkerView]:
    """Return every process that has not signed off, by pipeline; those without heartbeats are not `alive`."""
    now = literal_column(database.sql.now, UtcDateTime).label("now")
    query = select(*Worker.__table__.c, now).order_by(Worker.pipeline, Worker.host, Worker.device, Worker.id)
    with database.read() as connection:
        return [_view_from_row(row, lease_seconds) for row in connection.execute(query)]


def count_serving(workers: Iterable[WorkerView]) -> Counter[str]:
    """Count the live workers of each pipeline. Pure."""
    return Counter(name for worker in workers if worker.alive for name in {worker.pipeline, *worker.served_pipelines})


def other_revisions(workers: Iterable[WorkerView], batch: WaitingBatch) -> set[str]:
    """Return the revisions of a batch's workers when none has the batch's own, so that the batch waits for one."""
    if batch.status.has_ended or batch.revision is None:
        return set()
    revisions = {worker.revision for worker in workers if worker.alive and worker.pipeline == batch.pipeline}
    return set() if batch.revision in revisions else {revision for revision in revisions if revision}


def schedules_are_served(database: Database) -> bool:
    """Return whether a worker or `batchmill maintain` ran schedules in the last minute."""
    query = text(FIND_RECENT_SCHEDULE_CHECK.format(now=database.sql.now, later=database.sql.now_plus_seconds))
    with database.read() as connection:
        return connection.scalar(query, {"seconds": -MAX_SCHEDULE_CHECK_AGE_SECONDS}) is not None


def _view_from_row(row: Any, lease_seconds: float) -> WorkerView:
    # A heartbeat in the future dates from before the database's clock stepped back. It counts as one equally long ago.
    heartbeat_seconds_ago = abs((row.now - row.heartbeat_at).total_seconds())
    return WorkerView(
        id=row.id,
        host=row.host,
        pid=row.pid,
        device=row.device,
        pipeline=row.pipeline,
        model=row.model,
        revision=row.revision,
        served_pipelines=list(row.served_pipelines),
        settings_hashes=row.served_pipelines if isinstance(row.served_pipelines, dict) else {},
        guards=row.guards or {},
        state=row.state,
        state_seconds=max(0.0, (row.now - (row.state_since or row.started_at)).total_seconds()),
        uptime_seconds=max(0.0, (row.now - row.started_at).total_seconds()),
        heartbeat_seconds_ago=heartbeat_seconds_ago,
        alive=heartbeat_seconds_ago < GONE_AFTER_LEASES * lease_seconds,
    )
