"""The maintenance tasks: reclaim slices, end batches, delete old ones, resend wakeups, start schedules."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from sqlalchemy import column, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.lifecycle import due_intakes, expired_sessions, retention, termination
from models.settings import Settings
from models.states import BatchStatus, Termination
from worker.leasing import activity, reclaim
from worker.maintenance import clock_steps, resend_wakeups
from worker.maintenance.intake_launcher import IntakeLauncher
from worker.maintenance.schedule_launcher import ScheduleLauncher
from worker.maintenance.webhook_launcher import WebhookLauncher
from worker.metrics.recorder import NO_METRICS, MetricsRecorder

RECLAIM_TASK = "reclaim"
RETENTION_INTERVAL_SECONDS = 60.0
ACTIVITY_INTERVAL_SECONDS = 3600.0
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


def is_finished() -> bool:
    """The default of `MaintenanceTask.is_unfinished`."""
    return False


def can_always_run() -> bool:
    """The default of `MaintenanceTask.can_run`."""
    return True


@dataclass(frozen=True, slots=True)
class MaintenanceTask:
    """A task that is due every `interval_seconds`.

    run: returns what it did as a sentence, or an empty text.
    event: the log event for a run that did something.
    has_work: an SQL condition; where it is false, `run` is not called.
    is_unfinished: whether `run` must be called in this process even without work.
    can_run: whether this process can do anything now; otherwise it leaves the run to another one.
    is_routine: what it did is nothing to look at; it is logged at level info.
    """

    name: str
    interval_seconds: float
    run: Callable[[], str]
    event: str
    has_work: str = "true"
    is_unfinished: Callable[[], bool] = is_finished
    can_run: Callable[[], bool] = can_always_run
    is_routine: bool = False


def default_tasks(
    database: Database, settings: Settings, metrics: MetricsRecorder = NO_METRICS
) -> list[MaintenanceTask]:
    """All maintenance tasks, at the intervals of the settings."""
    sql = database.sql
    launcher = ScheduleLauncher(database, settings)
    intake_launcher = IntakeLauncher(database, settings)
    webhook_launcher = WebhookLauncher(database, settings)
    submit_timeout_seconds = settings.submit_timeout_seconds
    positions: dict[str, int] = {}
    return [
        MaintenanceTask(
            RECLAIM_TASK,
            settings.poll_interval_seconds,
            lambda: reclaim_expired_leases(database, settings.max_attempts, metrics),
            event="leases.reclaimed",
            has_work=_any_row("slices", reclaim.LEASE_EXPIRED.format(now=sql.now)),
        ),
        MaintenanceTask(
            "clock_steps",
            clock_steps.CHECK_INTERVAL_SECONDS,
            lambda: clock_steps.reset_future_timestamps(database, settings),
            event="clock.step_repaired",
            has_work=clock_steps.has_future_timestamps(sql, settings),
        ),
        MaintenanceTask(
            "deadlines",
            settings.deadline_check_seconds,
            lambda: expire_batches(database, metrics),
            event="batches.expired",
            has_work=" OR ".join(
                _any_row("batches", condition.format(now=sql.now))
                for condition in (IS_PAST_DEADLINE, IS_UNREAD_PAST_DEADLINE)
            ),
        ),
        MaintenanceTask(
            "terminations",
            settings.poll_interval_seconds,
            lambda: finish_terminations(database, positions),
            event="batches.terminated",
            has_work=_any_row("batches", "status = 'cancelling'"),
        ),
        MaintenanceTask(
            "wakeups",
            settings.wakeup_resend_seconds,
            lambda: resend_wakeups.resend_lost_wakeups(database, settings),
            event="wakeups.resent",
            has_work=_any_row("batches", "status = 'in_progress'"),
        ),
        MaintenanceTask(
            "abandoned_submissions",
            min(60.0, submit_timeout_seconds),
            lambda: end_abandoned_batches(database, submit_timeout_seconds),
            event="batches.abandoned",
            has_work=_any_row("batches", "status = 'validating' OR status = 'in_progress' AND ingesting"),
        ),
        MaintenanceTask(
            "schedules",
            settings.schedule_check_seconds,
            launcher.run_once,
            event="tick.failed",
            has_work=launcher.has_work_due,
            is_unfinished=launcher.is_unfinished,
            can_run=launcher.can_run,
        ),
        MaintenanceTask(
            "webhooks",
            settings.schedule_check_seconds,
            webhook_launcher.run_once,
            event="webhook.sender_failed",
            has_work=webhook_launcher.has_work_due,
            is_unfinished=webhook_launcher.is_running,
        ),
        MaintenanceTask(
            "intakes",
            settings.schedule_check_seconds,
            intake_launcher.run_once,
            event="intake.ended",
            has_work=intake_launcher.has_work_due,
            is_unfinished=intake_launcher.is_unfinished,
            can_run=intake_launcher.can_run,
        ),
        MaintenanceTask(
            "retention",
            RETENTION_INTERVAL_SECONDS,
            lambda: delete_old_batches(database, settings.retention_days),
            event="batches.deleted",
            has_work=_any_row("batches", IS_DELETING) if settings.retention_days is None else "true",
        ),
        MaintenanceTask(
            "activity",
            ACTIVITY_INTERVAL_SECONDS,
            lambda: activity.delete_old_minutes(database),
            event="activity.deleted",
            has_work=activity.has_old_minutes(database.engine.dialect.name),
            is_routine=True,
        ),
        MaintenanceTask(
            "sessions",
            RETENTION_INTERVAL_SECONDS,
            lambda: expired_sessions.sweep(database),
            event="sessions.deleted",
            has_work=_any_row("sessions", expired_sessions.HAS_EXPIRED.format(now=sql.now)),
            is_routine=True,
        ),
    ]


def _any_row(table: str, condition: str) -> str:
    return f"EXISTS (SELECT 1 FROM {table} WHERE {condition})"  # noqa: S608


def reclaim_expired_leases(database: Database, max_attempts: int, metrics: MetricsRecorder = NO_METRICS) -> str:
    """Requeue, split or dead-letter the slices with expired leases."""
    result = reclaim.reclaim_expired(database, max_attempts)
    if not result:
        return ""
    metrics.record_reclaim(len(result.requeued), len(result.split), len(result.dead_lettered))
    return f"leases expired: requeued {result.requeued}, split {result.split}, dead-lettered {result.dead_lettered}"


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
        batch_id
        for batch_id in _select_ids(database, SELECT_ABANDONED_VALIDATING, seconds=-max_silence_seconds)
        if termination.terminate(
            database,
            batch_id,
            Termination.FAILED,
            *SUBMIT_ABANDONED_ERROR,
            from_statuses=(BatchStatus.VALIDATING,),
            frees_key=True,
        )
        is not None
    ]
    ids += [
        batch_id
        for any_key, seconds in (
            (True, max_silence_seconds),
            (False, min(max_silence_seconds, MAX_INGEST_SILENCE_SECONDS)),
        )
        for batch_id in _select_ids(database, SELECT_ABANDONED_INGESTING, seconds=-seconds, any_key=any_key)
        if termination.terminate(
            database, batch_id, Termination.FAILED, *SUBMIT_ABANDONED_ERROR, only_while_ingesting=True, frees_key=True
        )
        is not None
    ]
    ids += [
        batch_id
        for batch_id in _select_ids(database, SELECT_ABANDONED_INTAKES, seconds=-max_silence_seconds)
        if _end_abandoned_intake(database, batch_id)
    ]
    ids += orphans
    return f"abandoned during submission: {', '.join(ids)}" if ids else ""


def _end_abandoned_intake(database: Database, batch_id: str) -> bool:
    """End a batch whose file nobody has read to its end; returns False if it was accepted meanwhile."""
    end = partial(
        termination.terminate, database, batch_id, Termination.FAILED, *INTAKE_ABANDONED_ERROR, frees_key=True
    )
    return end(from_statuses=(BatchStatus.VALIDATING,)) is not None or end(only_while_ingesting=True) is not None


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
