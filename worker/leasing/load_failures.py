"""Load failures: what the worker of a seat could not load, and which batches fail because nobody can.

A batch fails of its model only where the content is proven unusable, or missing, and no other live worker may have it:

- begun with a revision: another process has loaded it, so only a failure of exactly this model and revision counts;
- not begun yet: after `FAILURES` tries and a patience, since a machine that has the model may be starting.

Once any process has loaded a model at a revision, its content is proven usable, and no batch ever fails of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, column, text

from models.columns import Document, Moment
from models.db import Database, Fragments
from models.errors import BatchmillError, MissingModel, ModelError
from models.lifecycle import termination
from models.lifecycle.seats import seat_of
from models.pipelines.pipeline import Pipeline
from models.states import Ending, WorkerState

FAILURES = 3  # tries of a load before a batch that nobody has begun fails of it
PATIENCE_SECONDS = 15.0  # from the first of them
MISSING_PATIENCE_SECONDS = 45.0  # where the files are missing: a disk may be about to be mounted
MISSED_LEASES = 3  # a process that was silent for so many leases is not alive

RECORD = """
INSERT INTO load_failures (seat, pipeline, host, device, model, revision, code, message, tries, next_at)
VALUES (:seat, :pipeline, :host, :device, :model, :revision, :code, :message, 1, {later})
ON CONFLICT (seat, pipeline) DO UPDATE SET
    tries = CASE WHEN {same} THEN load_failures.tries + 1 ELSE 1 END,
    first_at = CASE WHEN {same} THEN load_failures.first_at ELSE {now} END,
    host = excluded.host, device = excluded.device, model = excluded.model, revision = excluded.revision,
    code = excluded.code, message = excluded.message, last_at = {now}, next_at = excluded.next_at
"""
SAME = """
load_failures.code = excluded.code AND load_failures.model = excluded.model
AND coalesce(load_failures.revision, '') = coalesce(excluded.revision, '')
"""

OF_SEAT = "SELECT pipeline, tries, next_at, {now} AS now FROM load_failures WHERE seat = :seat"

AGE = """
SELECT tries, first_at <= {later} AS is_old FROM load_failures WHERE seat = :seat AND pipeline = :pipeline
"""

# Two processes may prune at once: each leaves the other's rows alone.
PRUNE = """
DELETE FROM load_failures WHERE (seat, pipeline) IN
    (SELECT seat, pipeline FROM load_failures WHERE next_at < {later} {skip_locked})
"""

LIVE_WORKERS = "SELECT id, pipeline, model, revision, state, serves FROM workers WHERE heartbeat_at > {later}"

OTHERS = "SELECT seat, model, revision, code FROM load_failures WHERE pipeline = :pipeline"

WAITING = """
SELECT id, revision FROM batches
WHERE pipeline = :pipeline AND task = :task AND model = :model AND status = 'in_progress' AND succeeded = reused
ORDER BY id
"""

PROVEN = "SELECT 1 FROM model_versions WHERE task = :task AND model = :model AND revision = :revision"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a load was tried."""

    worker_id: str
    host: str
    device: str


def record(database: Database, place: Place, pipeline: str, model: str, error: BatchmillError, seconds: float) -> None:
    """Record that the pipeline could not be loaded here, and will be tried again after so many seconds."""
    named = {
        "seat": seat_of(place.worker_id), "pipeline": pipeline, "host": place.host, "device": place.device,
        "model": model, "revision": getattr(error, "revision", None), "code": error.code,
        "message": str(error)[:2000].replace("\0", ""), "seconds": seconds,
    }  # fmt: skip
    query = RECORD.format(now=database.sql.now, later=database.sql.later, same=SAME)
    with database.write() as connection:
        connection.execute(text(query), named)


def of_seat(database: Database, worker_id: str) -> dict[str, tuple[int, float]]:
    """What the processes of this seat before could not load: by pipeline, the tries and the seconds until the next."""
    query = text(OF_SEAT.format(now=database.sql.now)).columns(
        column("pipeline"), column("tries"), column("next_at", Moment), column("now", Moment)
    )
    with database.read() as connection:
        rows = connection.execute(query, {"seat": seat_of(worker_id)}).all()
    return {row.pipeline: (row.tries, (row.next_at - row.now).total_seconds()) for row in rows}


def clear(connection: Connection, worker_id: str, pipeline: str | None = None) -> None:
    """Forget what this seat could not load: one pipeline, or all of them when its worker signs off."""
    only = "" if pipeline is None else " AND pipeline = :pipeline"
    named = {"seat": seat_of(worker_id), "pipeline": pipeline}
    connection.execute(text(f"DELETE FROM load_failures WHERE seat = :seat{only}"), named)  # noqa: S608


def prune(connection: Connection, sql: Fragments, seconds: float) -> None:
    """Forget what was not tried again for so long."""
    query = text(PRUNE.format(later=sql.later, skip_locked=sql.skip_locked))
    connection.execute(query, {"seconds": -seconds})


def fail_batches(
    database: Database, place: Place, pipeline: Pipeline, error: ModelError, lease_seconds: float
) -> list[str]:
    """Fail the batches that nobody can serve because of this error; returns their ids. See the module's docstring."""
    if error.revision is not None and _is_proven(database, pipeline, error.revision):
        return []
    failed = []
    for batch in _waiting(database, pipeline):
        if batch.revision not in (None, error.revision):
            continue
        if batch.revision is None and not _is_old(database, place, pipeline, error):
            continue
        if _may_be_served(database, place, pipeline.name, batch.revision, lease_seconds):
            continue
        if termination.end(database, batch.id, Ending.FAILED, ModelError.code, str(error)) is not None:
            termination.finish(database, batch.id)
            failed.append(batch.id)
    return failed


def _waiting(database: Database, pipeline: Pipeline) -> Sequence[Row[Any]]:
    named = {"pipeline": pipeline.name, "task": pipeline.task, "model": pipeline.model}
    with database.read() as connection:
        return connection.execute(text(WAITING), named).all()


def _is_proven(database: Database, pipeline: Pipeline, revision: str) -> bool:
    named = {"task": pipeline.task, "model": pipeline.model, "revision": revision}
    with database.read() as connection:
        return connection.scalar(text(PROVEN), named) is not None


def _is_old(database: Database, place: Place, pipeline: Pipeline, error: ModelError) -> bool:
    patience = MISSING_PATIENCE_SECONDS if isinstance(error, MissingModel) else PATIENCE_SECONDS
    named = {"seat": seat_of(place.worker_id), "pipeline": pipeline.name, "seconds": -patience}
    with database.read() as connection:
        row = connection.execute(text(AGE.format(later=database.sql.later)), named).one_or_none()
    return row is not None and row.tries >= FAILURES and bool(row.is_old)


def _may_be_served(database: Database, place: Place, pipeline: str, revision: str | None, lease_seconds: float) -> bool:
    workers = text(LIVE_WORKERS.format(later=database.sql.later)).columns(
        column("id"), column("pipeline"), column("model"), column("revision"), column("state"),
        column("serves", Document),
    )  # fmt: skip
    with database.read() as connection:
        live = connection.execute(workers, {"seconds": -MISSED_LEASES * lease_seconds}).all()
        others = connection.execute(text(OTHERS), {"pipeline": pipeline}).all()
    given_up = {row.seat: row for row in others}
    mine = seat_of(place.worker_id)
    return any(
        may_serve(worker, given_up.get(seat_of(worker.id)), pipeline, revision)
        for worker in live
        if seat_of(worker.id) != mine and pipeline in worker.serves
    )


def may_serve(worker: Any, failure: Any, pipeline: str, revision: str | None) -> bool:
    """Whether a live worker that serves the pipeline can still be expected to work on a batch with this revision.

    `failure` is what it could not load, if so. Pure.
    """
    if worker.state == WorkerState.READY and worker.pipeline == pipeline:
        return revision in (None, worker.revision)
    return failure is None or failure.code not in (ModelError.code, MissingModel.code)
