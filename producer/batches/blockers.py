"""Blockers explain why no worker is processing a batch at the moment.

`find_blockers` reads SQL and `decide_blockers` decides. The CLI, the client and `doctor` show the result.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import column, literal_column, select, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.errors import UsageError
from models.lifecycle.claim_order import IS_AVAILABLE
from models.lifecycle.seats import worker_name_for
from models.pipelines.pipeline import split_revision
from models.processes import home_lock
from models.processes.holders import HolderId
from models.states import BatchStatus, WorkerState
from models.tables.workers import LoadFailure
from producer.batches.blocker import Blocker as Blocker
from producer.batches.views import BatchView
from producer.workers import workers
from producer.workers.workers import WaitingBatch, WorkerView

DEFAULT_LEASE_SECONDS = 30.0  # the setting's default; a worker counts as gone after three of these

# A failure stays visible this long after its next try was due, because the process may be restarting.
LOAD_FAILURE_TTL_SECONDS = 120.0
MAX_BLOCKERS = 5
PASSING_CODES = ("queued", "model_loading", "workers_busy", "waiting_for_retry")

COUNT_OPEN_SLICES = f"""
SELECT count(*) FILTER (WHERE state = 'leased') AS leased,
       count(*) FILTER (WHERE state = 'queued' AND {IS_AVAILABLE}) AS claimable,
       count(*) FILTER (WHERE state = 'queued' AND available_at > {{now}}) AS deferred,
       min(CASE WHEN state = 'queued' AND available_at > {{now}} THEN available_at END) AS next_retry_at, {{now}} AS now
FROM slices WHERE batch_id = :batch_id AND state IN ('queued', 'leased')
"""  # noqa: S608

SELECT_LAST_RETRY_ERROR = """
SELECT error_message FROM attempts WHERE batch_id = :batch_id AND outcome = 'retried' ORDER BY id DESC LIMIT 1
"""

SELECT_GUARDS = "SELECT guard FROM batch_guards WHERE batch_id = :batch_id ORDER BY guard"


@dataclass(frozen=True, slots=True)
class LoadFailureView:
    """A pipeline that a worker could not load.

    retry_in_seconds: time until the next try; below 0 while it is under way
    """

    worker_name: str
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
        """A sentence that says what failed and when the next try is."""
        next_try = f"again in {self.retry_in_seconds:.0f} s" if self.retry_in_seconds > 0 else "trying again now"
        times = "once" if self.attempts == 1 else f"{self.attempts:,} times"
        return f"{self.host} ({self.device}) can't load {self.pipeline}: {self.message} (tried {times}, {next_try})"

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `batchmill workers --json` prints."""
        return {
            "pipeline": self.pipeline,
            "error_code": self.code,
            "error_message": self.message,
            "attempts": self.attempts,
            "next_attempt_in_seconds": round(max(0.0, self.retry_in_seconds), 1),
        }


@dataclass(frozen=True, slots=True)
class SliceCounts:
    """The unfinished slices of a batch, by state.

    next_retry_seconds: time until the first deferred slice is due; 0 without one
    last_retry_error: error of the last retried attempt; None without deferred slices
    """

    leased: int
    claimable: int
    deferred: int
    next_retry_seconds: float
    last_retry_error: str | None


def find_blockers(
    database: Database, batch: BatchView, lease_seconds: float = DEFAULT_LEASE_SECONDS, home: Path | None = None
) -> list[Blocker]:
    """Return the reasons why no worker processes this batch; none while one does, or once it has ended.

    home: where a `batchmill up` may run that is starting its workers
    """
    if batch.status is not BatchStatus.IN_PROGRESS:
        return []
    slices = count_slices(database, batch.id)
    if slices.leased and not slices.claimable:
        return []
    worker_views = workers.list_workers(database, lease_seconds)
    guards = list_guards(database, batch.id)
    is_served = any(worker.alive and batch.pipeline in worker.served_pipelines for worker in worker_views)
    up = None if is_served or home is None else find_up(home)
    reasons = decide_blockers(batch, slices, worker_views, list_load_failures(database), guards, up)
    return list(reasons)[:MAX_BLOCKERS]


def foresee_blockers(
    database: Database, batch: BatchView, lease_seconds: float = DEFAULT_LEASE_SECONDS, home: Path | None = None
) -> list[Blocker]:
    """Return the reasons why no worker could run jobs of an ended batch again; those that pass by themselves are none.

    home: where a `batchmill up` may run that is starting its workers
    """
    worker_views = workers.list_workers(database, lease_seconds)
    is_served = any(worker.alive and batch.pipeline in worker.served_pipelines for worker in worker_views)
    up = None if is_served or home is None else find_up(home)
    ready = SliceCounts(leased=0, claimable=1, deferred=0, next_retry_seconds=0.0, last_retry_error=None)
    open_batch = replace(batch, status=BatchStatus.IN_PROGRESS)
    reasons = decide_blockers(
        open_batch, ready, worker_views, list_load_failures(database), list_guards(database, batch.id), up
    )
    return [reason for reason in reasons if reason.code not in PASSING_CODES][:MAX_BLOCKERS]


def find_up(home: Path) -> HolderId | None:
    """Find the `batchmill up` of a home; None if there is none, or if the home is somebody else's."""
    with suppress(UsageError):
        return home_lock.find_holder(home)
    return None


def no_worker_message(pipeline: str, up: HolderId | None) -> str:
    """Say that no worker serves a pipeline, and how to start one; `up` may have started or restart its workers."""
    if up is None:
        return f"no worker serves {pipeline} now; start one: batchmill up --pipelines {pipeline}"
    return (
        f"no worker serves {pipeline} now: `batchmill up` (pid {up.pid}) is starting its workers, or serves other "
        f"pipelines; in that case: batchmill down, then batchmill up --pipelines {pipeline}"
    )


def list_load_failures(database: Database) -> list[LoadFailureView]:
    """Return the pipelines that workers could not load, except failures whose next try is long overdue."""
    now = literal_column(database.sql.now, UtcDateTime).label("now")
    query = select(*LoadFailure.__table__.c, now).order_by(
        LoadFailure.pipeline, LoadFailure.host, LoadFailure.worker_name
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    load_failures = [
        LoadFailureView(
            row.worker_name,
            row.pipeline,
            row.host,
            row.device,
            row.model,
            row.error_code,
            row.error_message,
            row.attempts,
            (row.next_attempt_at - row.now).total_seconds(),
        )
        for row in rows
    ]
    return [failure for failure in load_failures if failure.retry_in_seconds > -LOAD_FAILURE_TTL_SECONDS]


def decide_blockers(
    batch: WaitingBatch,
    slices: SliceCounts,
    worker_views: Sequence[WorkerView],
    load_failures: Sequence[LoadFailureView],
    guards: Collection[str] = (),
    up: HolderId | None = None,
) -> Iterator[Blocker]:
    """Yield the reasons, those that a person can fix first. Pure.

    guards: the names of the guards that each job of the batch must pass
    up: the `batchmill up` of this home, if one runs
    """
    name = batch.pipeline
    load_failures = [failure for failure in load_failures if failure.pipeline == name]
    serving = [worker for worker in worker_views if worker.alive and name in worker.served_pipelines]
    failing_names = {failure.worker_name for failure in load_failures}
    capable_workers = [worker for worker in serving if worker_name_for(worker.id) not in failing_names]
    if slices.leased and (capable_workers or not load_failures):
        return  # a worker is processing it
    for failure in load_failures:
        yield Blocker(failure.code, failure.summary)
    if not serving and not load_failures:
        yield Blocker("no_worker", no_worker_message(name, up))
    elif not serving:
        yield Blocker("no_worker", f"no worker that serves {name} is alive now; see its log")
    guarding = [worker for worker in capable_workers if not worker.missing_guards(name, guards)]
    if capable_workers and not guarding:
        yield _missing_guards_blocker(batch, capable_workers, guards)
    elif slices.claimable or not slices.deferred:
        yield from _worker_blockers(batch, guarding)
    else:
        reason = f": {slices.last_retry_error}" if slices.last_retry_error else ""
        yield Blocker("waiting_for_retry", f"it is tried again in {max(0.0, slices.next_retry_seconds):.0f} s{reason}")


def _missing_guards_blocker(
    batch: WaitingBatch, capable_workers: Sequence[WorkerView], guards: Collection[str]
) -> Blocker:
    lists = [sorted(worker.missing_guards(batch.pipeline, guards)) for worker in capable_workers]
    missing = min(lists, key=len)
    return Blocker(
        "guard_missing",
        f"it waits for a worker whose {batch.pipeline} has the {'guard' if len(missing) == 1 else 'guards'} "
        f"{', '.join(missing)}, with which it was submitted: put that in the worker's batchmill.toml and restart it, "
        "or cancel the batch and submit it again",
    )


def _worker_blockers(batch: WaitingBatch, capable_workers: Sequence[WorkerView]) -> Iterator[Blocker]:
    loaded = [
        worker for worker in capable_workers if worker.state == WorkerState.READY and worker.pipeline == batch.pipeline
    ]
    for worker in capable_workers:
        location = f"{worker.host} ({worker.device})"
        if worker.pipeline == batch.pipeline and worker.state != WorkerState.READY:
            yield Blocker(
                "model_loading", f"{location} has been loading {batch.pipeline} for {worker.state_seconds:.0f} s"
            )
        elif worker.pipeline != batch.pipeline and not loaded:
            yield Blocker("workers_busy", f"{location} has {worker.pipeline} loaded and switches when that is done")
    if any(worker.revision == batch.revision or batch.revision is None for worker in loaded):
        yield Blocker(
            "queued", f"its turn has not come yet: {_worker_count_phrase(len(loaded))} busy, or about to claim"
        )
    other_revisions = workers.other_revisions(capable_workers, batch)
    if other_revisions and len(loaded) == len(capable_workers):
        advice = restore_advice(batch.revision)
        yield Blocker(
            "other_revision",
            f"it waits for a worker with revision {batch.revision}, with which it began; running workers have "
            f"{', '.join(sorted(other_revisions))}: {advice}, or submit the remaining jobs again",
        )


def restore_advice(revision: str | None) -> str:
    """Return what to do if no worker has the revision of a batch: workers see a restored folder when they start."""
    _, adapter_revision = split_revision(revision or "")
    return f"restore that {'model' if adapter_revision is None else 'model or adapter'} and restart the workers"


def _worker_count_phrase(count: int) -> str:
    return "one worker is" if count == 1 else f"{count:,} workers are"


def list_guards(database: Database, batch_id: str) -> list[str]:
    """Return the names of the guards that each job of a batch must pass."""
    with database.read() as connection:
        return list(connection.scalars(text(SELECT_GUARDS), {"batch_id": batch_id}))


def count_slices(database: Database, batch_id: str) -> SliceCounts:
    """Count the unfinished slices of a batch."""
    query = text(COUNT_OPEN_SLICES.format(now=database.sql.now)).columns(
        column("leased"),
        column("claimable"),
        column("deferred"),
        column("next_retry_at", UtcDateTime),
        column("now", UtcDateTime),
    )
    with database.read() as connection:
        row = connection.execute(query, {"batch_id": batch_id}).one()
        error = connection.scalar(text(SELECT_LAST_RETRY_ERROR), {"batch_id": batch_id}) if row.deferred else None
    seconds = (row.next_retry_at - row.now).total_seconds() if row.next_retry_at else 0.0
    return SliceCounts(row.leased, row.claimable, row.deferred, seconds, error)
