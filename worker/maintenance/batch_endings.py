"""The maintenance tasks that end batches: those past their deadline, terminating, abandoned or old."""

import time
from collections.abc import Sequence
from itertools import islice
from typing import Any

from sqlalchemy import column, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.lifecycle import due_intakes, retention, termination
from models.states import BatchStatus, Termination
from worker.metrics.recorder import NO_METRICS, MetricsRecorder

MAX_DELETE_SECONDS, DELETE_CHUNKS_PER_CHECK = 5.0, 4  # of one run, and between two checks of the clock
DAY_SECONDS = 86_400.0
MAX_CHUNKS_PER_RUN = 20  # of a terminating batch, so that a process can stop soon
MAX_INGEST_SILENCE_SECONDS = 600.0

IS_DELETING = "status = 'deleting'"
IS_PAST_DEADLINE = "status = 'in_progress' AND expires_at <= {now}"
# A batch whose file waits to be read. Another index finds it, so the two are asked for separately.
IS_UNREAD_PAST_DEADLINE = "status = 'validating' AND read_request IS NOT NULL AND expires_at <= {now}"
SELECT_PAST_DEADLINE = f"""
SELECT id, pipeline, expires_at, {{now}} AS now FROM batches WHERE {IS_PAST_DEADLINE}
UNION ALL SELECT id, pipeline, expires_at, {{now}} AS now FROM batches WHERE {IS_UNREAD_PAST_DEADLINE}
ORDER BY id LIMIT 100
"""  # noqa: S608

SELECT_TERMINATING = "SELECT id FROM batches WHERE status = 'cancelling' ORDER BY id LIMIT 100"

SELECT_ABANDONED_VALIDATING = """
SELECT id FROM batches b WHERE status = 'validating' AND coalesce(holder_heartbeat_at, created_at) <= {later}
  AND read_request IS NULL
  -- A run's source may be late.
  AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.batch_id = b.id AND r.next_check_at IS NOT NULL)
ORDER BY id LIMIT 100
"""

# No machine that has the file and the pipeline was there, or a query's database never answered.
SELECT_ABANDONED_INTAKES = f"""
SELECT id FROM batches b WHERE {due_intakes.IS_OPEN} AND coalesce(holder_heartbeat_at, created_at) <= {{later}}
ORDER BY id LIMIT 100
"""  # noqa: S608

# Without a key no submission can resume it, and workers have started on it already.
SELECT_ABANDONED_INGESTING = """
SELECT id FROM batches WHERE status = 'in_progress' AND ingesting
  AND coalesce(holder_heartbeat_at, created_at) <= {later} AND (idempotency_key IS NULL OR :any_key)
  AND read_request IS NULL
ORDER BY id LIMIT 100
"""

SUBMIT_ABANDONED_ERROR = (
    "submission_abandoned",
    "the submission stopped before all of its input was read; submit it again",
)

INTAKE_ABANDONED_ERROR = (
    "intake_abandoned",
    "no server or worker that has its file and its pipeline has read it; start one with the same file_store and "
    "pipelines, and submit it again",
)


def expire_batches(database: Database, metrics: MetricsRecorder = NO_METRICS) -> str:
    """End the batches whose deadline has passed, also those whose file was not read in time."""
    query = text(SELECT_PAST_DEADLINE.format(now=database.sql.now)).columns(
        column("id"), column("pipeline"), column("expires_at", UtcDateTime), column("now", UtcDateTime)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    open_statuses = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS)
    ids = []
    for row in rows:
        closed = termination.terminate(database, row.id, Termination.EXPIRED, None, None, from_statuses=open_statuses)
        if closed is not None:
            ids.append(row.id)
            margin = (row.expires_at - row.now).total_seconds()
            metrics.record_batch_end(row.pipeline, BatchStatus.EXPIRED.value, margin)
    return f"deadline passed: {', '.join(ids)}" if ids else ""


def finish_terminations(database: Database, positions: dict[str, int]) -> str:
    """Write the remaining results of terminating batches.

    positions: how far this process has come in each of them, so that the next call does not begin with jobs that are
        answered already; another process may repeat them
    """
    closed_jobs: dict[str, int] = {}
    ids = _select_ids(database, SELECT_TERMINATING)
    for batch_id in positions.keys() - set(ids):
        del positions[batch_id]
    for batch_id in ids:
        after = positions.get(batch_id, -1)
        progress = termination.finish_termination(database, batch_id, MAX_CHUNKS_PER_RUN, after)
        closed_jobs[batch_id], positions[batch_id] = progress.closed_jobs, progress.last_position
    summary = ", ".join(f"{batch_id} ({count:,} jobs)" for batch_id, count in closed_jobs.items())
    return f"closed remaining jobs: {summary}" if summary else ""


def end_abandoned_batches(database: Database, max_silence_seconds: float) -> str:
    """End the batches whose submission stopped; the same command then creates a new batch.

    One that no process can resume is deleted at once if its submitter is known to have exited.
    """
    orphans = retention.begin_deletion_of_orphans(database)
    ids = [
        *_end_abandoned_validating(database, max_silence_seconds),
        *_end_abandoned_ingesting(database, max_silence_seconds),
        *_end_abandoned_intakes(database, max_silence_seconds),
        *orphans,
    ]
    return f"abandoned during submission: {', '.join(ids)}" if ids else ""


def _end_abandoned_validating(database: Database, max_silence_seconds: float) -> list[str]:
    validating = (BatchStatus.VALIDATING,)
    return [
        batch_id
        for batch_id in _select_ids(database, SELECT_ABANDONED_VALIDATING, seconds=-max_silence_seconds)
        if _fail(database, batch_id, SUBMIT_ABANDONED_ERROR, from_statuses=validating)
    ]


def _end_abandoned_ingesting(database: Database, max_silence_seconds: float) -> list[str]:
    keyless_seconds = min(max_silence_seconds, MAX_INGEST_SILENCE_SECONDS)
    return [
        batch_id
        for any_key, seconds in ((True, max_silence_seconds), (False, keyless_seconds))
        for batch_id in _select_ids(database, SELECT_ABANDONED_INGESTING, seconds=-seconds, any_key=any_key)
        if _fail(database, batch_id, SUBMIT_ABANDONED_ERROR, only_while_ingesting=True)
    ]


def _end_abandoned_intakes(database: Database, max_silence_seconds: float) -> list[str]:
    """End the batches whose files nobody has read to their end, unless they were accepted meanwhile."""
    return [
        batch_id
        for batch_id in _select_ids(database, SELECT_ABANDONED_INTAKES, seconds=-max_silence_seconds)
        if _fail(database, batch_id, INTAKE_ABANDONED_ERROR, from_statuses=(BatchStatus.VALIDATING,))
        or _fail(database, batch_id, INTAKE_ABANDONED_ERROR, only_while_ingesting=True)
    ]


def _fail(database: Database, batch_id: str, error: tuple[str, str], **conditions: Any) -> bool:
    """End a batch as failed and free its key; returns False if the conditions do not hold any more."""
    code, message = error
    return (
        termination.terminate(database, batch_id, Termination.FAILED, code, message, frees_key=True, **conditions)
        is not None
    )


def delete_old_batches(database: Database, retention_days: float | None) -> str:
    """Delete old batches and those whose deletion has begun, for at most `MAX_DELETE_SECONDS`.

    retention_days: how long ended batches are kept; None = for ever.
    """
    if retention_days is not None:
        retention.delete_old_runs(database, retention_days * DAY_SECONDS)
        for batch in islice(retention.old_batches(database, retention_days * DAY_SECONDS), 100):
            retention.begin_deletion(database, batch.id)
    end, deleted = time.monotonic() + MAX_DELETE_SECONDS, []
    for batch_id in retention.deleting_batches(database):
        while time.monotonic() < end:
            if retention.finish_deletion(database, batch_id, DELETE_CHUNKS_PER_CHECK):
                deleted.append(batch_id)
                break
    return f"deleted: {', '.join(deleted)}" if deleted else ""


def _select_ids(database: Database, statement: str, **params: float) -> Sequence[str]:
    query = text(statement.format(now=database.sql.now, later=database.sql.now_plus_seconds))
    with database.read() as connection:
        return connection.scalars(query, params).all()
