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

from models.columns import Document, UtcDateTime
from models.db import Database, SqlFragments
from models.errors import BatchmillError, MissingModel, ModelError
from models.lifecycle import termination
from models.lifecycle.seats import worker_name_for
from models.pipelines.pipeline import Pipeline
from models.states import Termination, WorkerState

MIN_LOAD_ATTEMPTS = 3  # tries of a load before a batch that nobody has begun fails of it
FAILURE_GRACE_SECONDS = 15.0  # from the first of them
MISSING_FILES_GRACE_SECONDS = 45.0  # where the files are missing: a disk may be about to be mounted
MAX_MISSED_LEASES = 3  # a process that was silent for so many leases is not alive

UPSERT_FAILURE = """
INSERT INTO load_failures (seat, pipeline, host, device, model, revision, code, message, tries, next_at)
VALUES (:seat, :pipeline, :host, :device, :model, :revision, :code, :message, 1, {later})
ON CONFLICT (seat, pipeline) DO UPDATE SET
    tries = CASE WHEN {same} THEN load_failures.tries + 1 ELSE 1 END,
    first_at = CASE WHEN {same} THEN load_failures.first_at ELSE {now} END,
    host = excluded.host, device = excluded.device, model = excluded.model, revision = excluded.revision,
    code = excluded.code, message = excluded.message, last_at = {now}, next_at = excluded.next_at
"""
IS_SAME_FAILURE = """
load_failures.code = excluded.code AND load_failures.model = excluded.model
AND coalesce(load_failures.revision, '') = coalesce(excluded.revision, '')
"""

SELECT_SEAT_FAILURES = "SELECT pipeline, tries, next_at, {now} AS now FROM load_failures WHERE seat = :seat"

SELECT_FAILURE_AGE = """
SELECT tries, first_at <= {later} AS is_old FROM load_failures WHERE seat = :seat AND pipeline = :pipeline
"""

# Two processes may prune at once: each leaves the other's rows alone.
DELETE_OLD_FAILURES = """
DELETE FROM load_failures WHERE (seat, pipeline) IN
    (SELECT seat, pipeline FROM load_failures WHERE next_at < {later} {skip_locked})
"""

SELECT_LIVE_WORKERS = "SELECT id, pipeline, model, revision, state, serves FROM workers WHERE heartbeat_at > {later}"

SELECT_PIPELINE_FAILURES = "SELECT seat, model, revision, code FROM load_failures WHERE pipeline = :pipeline"

SELECT_UNANSWERED_BATCHES = """
SELECT id, revision FROM batches
WHERE pipeline = :pipeline AND task = :task AND model = :model AND status = 'in_progress' AND succeeded = reused
ORDER BY id
"""

SELECT_LOADED_VERSION = "SELECT 1 FROM model_versions WHERE task = :task AND model = :model AND revision = :revision"


@dataclass(frozen=True, slots=True)
class LoadLocation:
    """Where a load was tried."""

    worker_id: str
    host: str
    device: str


def record(
    database: Database,
    location: LoadLocation,
    pipeline: str,
    model: str,
    error: BatchmillError,
    retry_after_seconds: float,
) -> None:
    """Record that the pipeline could not be loaded here, and will be tried again after so many seconds."""
    named = {
        "seat": worker_name_for(location.worker_id),
        "pipeline": pipeline,
        "host": location.host,
        "device": location.device,
        "model": model,
        "revision": getattr(error, "revision", None),
        "code": error.code,
        "message": str(error)[:2000].replace("\0", ""),
        "seconds": retry_after_seconds,
    }
    query = UPSERT_FAILURE.format(now=database.sql.now, later=database.sql.now_plus_seconds, same=IS_SAME_FAILURE)
    with database.write() as connection:
        connection.execute(text(query), named)


def failures_for_seat(database: Database, worker_id: str) -> dict[str, tuple[int, float]]:
    """What the processes of this seat before could not load: by pipeline, the tries and the seconds until the next."""
    query = text(SELECT_SEAT_FAILURES.format(now=database.sql.now)).columns(
        column("pipeline"), column("tries"), column("next_at", UtcDateTime), column("now", UtcDateTime)
    )
    with database.read() as connection:
        rows = connection.execute(query, {"seat": worker_name_for(worker_id)}).all()
    return {row.pipeline: (row.tries, (row.next_at - row.now).total_seconds()) for row in rows}


def clear(connection: Connection, worker_id: str, pipeline: str | None = None) -> None:
    """Forget what this seat could not load: one pipeline, or all of them when its worker signs off."""
    only = "" if pipeline is None else " AND pipeline = :pipeline"
    named = {"seat": worker_name_for(worker_id), "pipeline": pipeline}
    connection.execute(text(f"DELETE FROM load_failures WHERE seat = :seat{only}"), named)  # noqa: S608


def prune(connection: Connection, sql: SqlFragments, max_age_seconds: float) -> None:
    """Forget what was not tried again for so long."""
    query = text(DELETE_OLD_FAILURES.format(later=sql.now_plus_seconds, skip_locked=sql.skip_locked))
    connection.execute(query, {"seconds": -max_age_seconds})


def fail_unservable_batches(
    database: Database, location: LoadLocation, pipeline: Pipeline, error: ModelError, lease_seconds: float
) -> list[str]:
    """Fail the batches that nobody can serve because of this error; returns their ids. See the module's docstring."""
    if error.revision is not None and _was_ever_loaded(database, pipeline, error.revision):
        return []
    failed = []
    for batch in _unanswered_batches(database, pipeline):
        if batch.revision not in (None, error.revision):
            continue
        if batch.revision is None and not _has_failed_long_enough(database, location, pipeline, error):
            continue
        if _can_be_served(database, location, pipeline.name, batch.revision, lease_seconds):
            continue
        if termination.terminate(database, batch.id, Termination.FAILED, ModelError.code, str(error)) is not None:
            termination.finish_termination(database, batch.id)
            failed.append(batch.id)
    return failed


def _unanswered_batches(database: Database, pipeline: Pipeline) -> Sequence[Row[Any]]:
    named = {"pipeline": pipeline.name, "task": pipeline.task, "model": pipeline.model}
    with database.read() as connection:
        return connection.execute(text(SELECT_UNANSWERED_BATCHES), named).all()


def _was_ever_loaded(database: Database, pipeline: Pipeline, revision: str) -> bool:
    named = {"task": pipeline.task, "model": pipeline.model, "revision": revision}
    with database.read() as connection:
        return connection.scalar(text(SELECT_LOADED_VERSION), named) is not None


def _has_failed_long_enough(database: Database, location: LoadLocation, pipeline: Pipeline, error: ModelError) -> bool:
    patience = MISSING_FILES_GRACE_SECONDS if isinstance(error, MissingModel) else FAILURE_GRACE_SECONDS
    named = {"seat": worker_name_for(location.worker_id), "pipeline": pipeline.name, "seconds": -patience}
    with database.read() as connection:
        row = connection.execute(
            text(SELECT_FAILURE_AGE.format(later=database.sql.now_plus_seconds)), named
        ).one_or_none()
    return row is not None and row.tries >= MIN_LOAD_ATTEMPTS and bool(row.is_old)


def _can_be_served(
    database: Database, location: LoadLocation, pipeline: str, revision: str | None, lease_seconds: float
) -> bool:
    workers = text(SELECT_LIVE_WORKERS.format(later=database.sql.now_plus_seconds)).columns(
        column("id"),
        column("pipeline"),
        column("model"),
        column("revision"),
        column("state"),
        column("serves", Document),
    )
    with database.read() as connection:
        live = connection.execute(workers, {"seconds": -MAX_MISSED_LEASES * lease_seconds}).all()
        others = connection.execute(text(SELECT_PIPELINE_FAILURES), {"pipeline": pipeline}).all()
    given_up = {row.seat: row for row in others}
    mine = worker_name_for(location.worker_id)
    return any(
        can_serve(worker, given_up.get(worker_name_for(worker.id)), pipeline, revision)
        for worker in live
        if worker_name_for(worker.id) != mine and pipeline in worker.serves
    )


def can_serve(worker: Any, failure: Any, pipeline: str, revision: str | None) -> bool:
    """Whether a live worker that serves the pipeline can still be expected to work on a batch with this revision.

    `failure` is what it could not load, if so. Pure.
    """
    if worker.state == WorkerState.READY and worker.pipeline == pipeline:
        return revision in (None, worker.revision)
    return failure is None or failure.code not in (ModelError.code, MissingModel.code)
