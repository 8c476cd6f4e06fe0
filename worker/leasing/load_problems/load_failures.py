"""Load failures record the models that a worker could not load, and fail the batches that no worker can serve.

A batch fails because of its model only if the content is proven unusable or missing, and no other live worker may
have it, or could a short while ago and may be restarting:

- A batch with a revision: another process has loaded it, so only a failure of this model and revision counts.
- A batch without one: after `MIN_LOAD_ATTEMPTS` and a grace period, because a machine with the model may be starting.

Once any process has loaded a model at a revision, its content is proven usable, and no batch fails because of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, column, text

from models.db import Database
from models.dialects.columns import Document, UtcDateTime
from models.dialects.fragments import SqlFragments
from models.errors import BatchmillError, MissingModel, ModelError
from models.lifecycle import termination
from models.lifecycle.seats import worker_name_for
from models.pipelines.pipeline import Pipeline, split_revision
from models.states import Termination, WorkerState
from worker.leasing.load_problems.peer_watch import PeerWatch

MIN_LOAD_ATTEMPTS = 3  # before a batch without a revision fails because of them
FAILURE_GRACE_SECONDS = 15.0  # from the first attempt
MISSING_FILES_GRACE_SECONDS = 45.0  # for missing files: a disk may be about to be mounted

UPSERT_FAILURE = """
INSERT INTO load_failures (worker_name, pipeline, host, device, model, revision, error_code, error_message, attempts,
                           next_attempt_at)
VALUES (:worker_name, :pipeline, :host, :device, :model, :revision, :error_code, :error_message, 1, {later})
ON CONFLICT (worker_name, pipeline) DO UPDATE SET
    attempts = CASE WHEN {same} THEN load_failures.attempts + 1 ELSE 1 END,
    first_failed_at = CASE WHEN {same} THEN load_failures.first_failed_at ELSE {now} END,
    host = excluded.host, device = excluded.device, model = excluded.model, revision = excluded.revision,
    error_code = excluded.error_code, error_message = excluded.error_message, last_failed_at = {now},
    next_attempt_at = excluded.next_attempt_at
"""
IS_SAME_FAILURE = """
load_failures.error_code = excluded.error_code AND load_failures.model = excluded.model
AND coalesce(load_failures.revision, '') = coalesce(excluded.revision, '')
"""

SELECT_SEAT_FAILURES = (
    "SELECT pipeline, attempts, next_attempt_at, {now} AS now FROM load_failures WHERE worker_name = :worker_name"
)

SELECT_FAILURE_AGE = """
SELECT attempts, first_failed_at <= {later} AS is_old
FROM load_failures WHERE worker_name = :worker_name AND pipeline = :pipeline
"""

# Two processes may prune at once: each skips the rows that the other has locked.
DELETE_OLD_FAILURES = """
DELETE FROM load_failures WHERE (worker_name, pipeline) IN
    (SELECT worker_name, pipeline FROM load_failures WHERE next_attempt_at < {later} {skip_locked})
"""

SELECT_LIVE_WORKERS = (
    "SELECT id, pipeline, model, revision, state, served_pipelines FROM workers WHERE heartbeat_at > {later}"
)

SELECT_PIPELINE_FAILURES = (
    "SELECT worker_name, model, revision, error_code FROM load_failures WHERE pipeline = :pipeline"
)

SELECT_UNANSWERED_BATCHES = """
SELECT id, revision FROM batches
WHERE pipeline = :pipeline AND task = :task AND model = :model AND status = 'in_progress' AND succeeded = reused
ORDER BY id
"""

SELECT_LOADED_VERSION = """
SELECT 1 FROM model_versions
WHERE task = :task AND model = :model AND revision = :revision
  AND coalesce(adapter_revision, '') = coalesce(CAST(:adapter_revision AS TEXT), '')
"""


@dataclass(frozen=True, slots=True)
class LoadLocation:
    """The worker, host and device of a load."""

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
    """Record that the pipeline could not be loaded here, and is tried again after `retry_after_seconds`."""
    params = {
        "worker_name": worker_name_for(location.worker_id),
        "pipeline": pipeline,
        "host": location.host,
        "device": location.device,
        "model": model,
        "revision": getattr(error, "revision", None),
        "error_code": error.code,
        "error_message": str(error)[:2000].replace("\0", ""),
        "seconds": retry_after_seconds,
    }
    query = UPSERT_FAILURE.format(now=database.sql.now, later=database.sql.now_plus_seconds, same=IS_SAME_FAILURE)
    with database.write() as connection:
        connection.execute(text(query), params)


def failures_for_seat(database: Database, worker_id: str) -> dict[str, tuple[int, float]]:
    """Return the failures of this worker's predecessors: by pipeline, attempts and seconds until the next one."""
    query = text(SELECT_SEAT_FAILURES.format(now=database.sql.now)).columns(
        column("pipeline"), column("attempts"), column("next_attempt_at", UtcDateTime), column("now", UtcDateTime)
    )
    with database.read() as connection:
        rows = connection.execute(query, {"worker_name": worker_name_for(worker_id)}).all()
    return {row.pipeline: (row.attempts, (row.next_attempt_at - row.now).total_seconds()) for row in rows}


def clear(connection: Connection, worker_id: str, pipeline: str | None = None) -> None:
    """Delete this worker's failures: of one pipeline, or None = of all, when the worker shuts down."""
    condition = "" if pipeline is None else " AND pipeline = :pipeline"
    params = {"worker_name": worker_name_for(worker_id), "pipeline": pipeline}
    connection.execute(text(f"DELETE FROM load_failures WHERE worker_name = :worker_name{condition}"), params)  # noqa: S608


def prune(connection: Connection, sql: SqlFragments, max_age_seconds: float) -> None:
    """Delete failures whose next attempt is overdue by `max_age_seconds`."""
    query = text(DELETE_OLD_FAILURES.format(later=sql.now_plus_seconds, skip_locked=sql.skip_locked))
    connection.execute(query, {"seconds": -max_age_seconds})


def fail_unservable_batches(
    database: Database, location: LoadLocation, pipeline: Pipeline, error: ModelError, peers: PeerWatch
) -> list[str]:
    """Fail the batches that no worker can serve because of this error, as the module describes; returns their ids."""
    if error.revision is not None and _was_ever_loaded(database, pipeline, error.revision):
        return []
    failed = []
    for batch in _unanswered_batches(database, pipeline):
        if batch.revision not in (None, error.revision):
            continue
        if batch.revision is None and not _has_failed_long_enough(database, location, pipeline, error):
            continue
        if _can_be_served(database, location, pipeline.name, batch.revision, peers.silent_seconds):
            peers.record_server(pipeline.name, batch.revision)
        if peers.may_return(pipeline.name, batch.revision):
            continue
        if termination.terminate(database, batch.id, Termination.FAILED, ModelError.code, str(error)) is not None:
            termination.finish_termination(database, batch.id)
            failed.append(batch.id)
    return failed


def _unanswered_batches(database: Database, pipeline: Pipeline) -> Sequence[Row[Any]]:
    params = {"pipeline": pipeline.name, "task": pipeline.task, "model": pipeline.model}
    with database.read() as connection:
        return connection.execute(text(SELECT_UNANSWERED_BATCHES), params).all()


def _was_ever_loaded(database: Database, pipeline: Pipeline, revision: str) -> bool:
    model_revision, adapter_revision = split_revision(revision)
    params = {
        "task": pipeline.task,
        "model": pipeline.model,
        "revision": model_revision,
        "adapter_revision": adapter_revision,
    }
    with database.read() as connection:
        return connection.scalar(text(SELECT_LOADED_VERSION), params) is not None


def _has_failed_long_enough(database: Database, location: LoadLocation, pipeline: Pipeline, error: ModelError) -> bool:
    grace_seconds = MISSING_FILES_GRACE_SECONDS if isinstance(error, MissingModel) else FAILURE_GRACE_SECONDS
    params = {"worker_name": worker_name_for(location.worker_id), "pipeline": pipeline.name, "seconds": -grace_seconds}
    query = text(SELECT_FAILURE_AGE.format(later=database.sql.now_plus_seconds))
    with database.read() as connection:
        row = connection.execute(query, params).one_or_none()
    return row is not None and row.attempts >= MIN_LOAD_ATTEMPTS and bool(row.is_old)


def _can_be_served(
    database: Database, location: LoadLocation, pipeline: str, revision: str | None, silent_seconds: float
) -> bool:
    workers = text(SELECT_LIVE_WORKERS.format(later=database.sql.now_plus_seconds)).columns(
        column("id"),
        column("pipeline"),
        column("model"),
        column("revision"),
        column("state"),
        column("served_pipelines", Document),
    )
    with database.read() as connection:
        live = connection.execute(workers, {"seconds": -silent_seconds}).all()
        failures = connection.execute(text(SELECT_PIPELINE_FAILURES), {"pipeline": pipeline}).all()
    failures_by_name = {row.worker_name: row for row in failures}
    own_name = worker_name_for(location.worker_id)
    return any(
        can_serve(worker, failures_by_name.get(worker_name_for(worker.id)), pipeline, revision)
        for worker in live
        if worker_name_for(worker.id) != own_name and pipeline in worker.served_pipelines
    )


def can_serve(worker: Any, failure: Any, pipeline: str, revision: str | None) -> bool:
    """Whether a live worker that serves the pipeline may still work on a batch with this revision. Pure.

    failure: the worker's load failure of the pipeline; None = none recorded.
    """
    if worker.state == WorkerState.READY and worker.pipeline == pipeline:
        return revision in (None, worker.revision)
    return failure is None or failure.error_code not in (ModelError.code, MissingModel.code)
