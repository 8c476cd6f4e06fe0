"""Blockers: why a batch is not being worked on at this moment.

`of_batch` asks SQL, and `blockers` decides; the CLI, the client and `doctor` show what it finds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import column, literal_column, select, text

from models.columns import UtcDateTime
from models.db import Database
from models.lifecycle.seats import worker_name_for
from models.states import BatchStatus, WorkerState
from models.tables import LoadFailure
from producer.batches import workers
from producer.batches.views import BatchView
from producer.batches.workers import WorkerView

DEFAULT_LEASE_SECONDS = 30.0  # the setting's default: a worker is taken for gone after three of these

# A failure is shown for so long after its next try was due: the process may be starting again.
LOAD_FAILURE_TTL_SECONDS = 120.0
MAX_BLOCKERS = 5

COUNT_OPEN_SLICES = """
SELECT count(*) FILTER (WHERE state = 'leased') AS leased,
       count(*) FILTER (WHERE state = 'queued' AND (not_before IS NULL OR not_before <= {now})) AS claimable,
       count(*) FILTER (WHERE state = 'queued' AND not_before > {now}) AS put_off,
       min(CASE WHEN state = 'queued' AND not_before > {now} THEN not_before END) AS due_at, {now} AS now
FROM slices WHERE batch_id = :batch_id AND state IN ('queued', 'leased')
"""

SELECT_LAST_RETRY_ERROR = """
SELECT error_message FROM attempts WHERE batch_id = :batch_id AND ending = 'retried' ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Blocker:
    """One reason: a stable code, and a sentence for people."""

    code: str
    message: str

    def as_dict(self) -> dict[str, str]:
        """As `--json` prints it."""
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class LoadFailureView:
    """A pipeline that a worker could not load; `next_seconds` is until the next try, below 0 where it is under way."""

    seat: str
    pipeline: str
    host: str
    device: str
    model: str
    code: str
    message: str
    attempts: int
    retry_in_seconds: float

    @property
    def summary(self) -> str:
        """What happened and when it is tried again."""
        again = f"again in {self.retry_in_seconds:.0f} s" if self.retry_in_seconds > 0 else "trying again now"
        times = "once" if self.attempts == 1 else f"{self.attempts:,} times"
        return f"{self.host} ({self.device}) can't load {self.pipeline}: {self.message} (tried {times}, {again})"

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill workers --json` prints it."""
        return {
            "pipeline": self.pipeline,
            "code": self.code,
            "message": self.message,
            "tries": self.attempts,
            "next_try_in_seconds": round(max(0.0, self.retry_in_seconds), 1),
        }


@dataclass(frozen=True, slots=True)
class SliceCounts:
    """The slices of a batch that are not done; `put_off_seconds` is until the first of those put off is due."""

    leased: int
    claimable: int
    deferred: int
    next_retry_seconds: float
    last_retry_error: str | None


def find_blockers(database: Database, batch: BatchView, lease_seconds: float = DEFAULT_LEASE_SECONDS) -> list[Blocker]:
    """Why nobody works on this batch; empty while somebody does, and where it has ended."""
    if batch.status is not BatchStatus.IN_PROGRESS:
        return []
    slices = _count_slices(database, batch.id)
    if slices.leased and not slices.claimable:
        return []
    there = workers.list_workers(database, lease_seconds)
    return list(decide_blockers(batch, slices, there, list_load_failures(database)))[:MAX_BLOCKERS]


def list_load_failures(database: Database) -> list[LoadFailureView]:
    """What workers could not load, unless the next try is long overdue."""
    now = literal_column(database.sql.now, UtcDateTime).label("now")
    query = select(*LoadFailure.__table__.c, now).order_by(LoadFailure.pipeline, LoadFailure.host, LoadFailure.seat)
    with database.read() as connection:
        rows = connection.execute(query).all()
    found = [
        LoadFailureView(
            row.seat,
            row.pipeline,
            row.host,
            row.device,
            row.model,
            row.code,
            row.message,
            row.tries,
            (row.next_at - row.now).total_seconds(),
        )
        for row in rows
    ]
    return [failure for failure in found if failure.retry_in_seconds > -LOAD_FAILURE_TTL_SECONDS]


def decide_blockers(
    batch: BatchView, slices: SliceCounts, worker_views: Sequence[WorkerView], load_failures: Sequence[LoadFailureView]
) -> Iterator[Blocker]:
    """The reasons, what can be mended first. Pure."""
    name = batch.pipeline
    load_failures = [failure for failure in load_failures if failure.pipeline == name]
    serving = [worker for worker in worker_views if worker.alive and name in worker.serves]
    broken = {failure.seat for failure in load_failures}
    able = [worker for worker in serving if worker_name_for(worker.id) not in broken]
    if slices.leased and (able or not load_failures):
        return  # somebody is working on it
    for failure in load_failures:
        yield Blocker(failure.code, failure.summary)
    if not serving and not load_failures:
        yield Blocker("no_worker", f"no worker serves {name} now; start one: batchmill up --pipelines {name}")
    elif not serving:
        yield Blocker("no_worker", f"no worker that serves {name} is alive now; see its log")
    if slices.claimable or not slices.deferred:
        yield from _worker_blockers(batch, able)
    else:
        reason = f": {slices.last_retry_error}" if slices.last_retry_error else ""
        yield Blocker("put_off", f"it is tried again in {max(0.0, slices.next_retry_seconds):.0f} s{reason}")


def _worker_blockers(batch: BatchView, capable_workers: Sequence[WorkerView]) -> Iterator[Blocker]:
    loaded = [
        worker for worker in capable_workers if worker.state == WorkerState.READY and worker.pipeline == batch.pipeline
    ]
    for worker in capable_workers:
        where = f"{worker.host} ({worker.device})"
        if worker.pipeline == batch.pipeline and worker.state != WorkerState.READY:
            yield Blocker("loading", f"{where} has been loading {batch.pipeline} for {worker.state_seconds:.0f} s")
        elif worker.pipeline != batch.pipeline and not loaded:
            yield Blocker("busy", f"{where} has {worker.pipeline} loaded, and changes when that work is done")
    if any(worker.revision == batch.revision or batch.revision is None for worker in loaded):
        yield Blocker(
            "queued", f"its turn has not come yet: {_worker_count_phrase(len(loaded))} busy, or about to claim"
        )
    others = workers.other_revisions(capable_workers, batch)
    if others and len(loaded) == len(capable_workers):
        yield Blocker(
            "other_revision",
            f"it waits for a worker with revision {batch.revision}, with which it began; those that run have "
            f"{', '.join(sorted(others))}: bring that model back, or submit the rest again",
        )


def _worker_count_phrase(count: int) -> str:
    return "one worker is" if count == 1 else f"{count:,} workers are"


def _count_slices(database: Database, batch_id: str) -> SliceCounts:
    query = text(COUNT_OPEN_SLICES.format(now=database.sql.now)).columns(
        column("leased"),
        column("claimable"),
        column("put_off"),
        column("due_at", UtcDateTime),
        column("now", UtcDateTime),
    )
    with database.read() as connection:
        row = connection.execute(query, {"batch_id": batch_id}).one()
        last = connection.scalar(text(SELECT_LAST_RETRY_ERROR), {"batch_id": batch_id}) if row.put_off else None
    seconds = (row.due_at - row.now).total_seconds() if row.due_at else 0.0
    return SliceCounts(row.leased, row.claimable, row.put_off, seconds, last)
