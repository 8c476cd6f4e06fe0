"""The maintenance tasks: reclaim slices, end batches, delete old ones, resend wakeups, start schedules."""

from collections.abc import Callable
from dataclasses import dataclass

from models.db import Database
from models.lifecycle import expired_sessions
from models.settings import Settings
from worker.leasing import activity, reclaim
from worker.maintenance import batch_endings, clock_steps, resend_wakeups
from worker.maintenance.intake_launcher import IntakeLauncher
from worker.maintenance.schedule_launcher import ScheduleLauncher
from worker.maintenance.webhook_launcher import WebhookLauncher
from worker.metrics.recorder import NO_METRICS, MetricsRecorder

RECLAIM_TASK = "reclaim"
RETENTION_INTERVAL_SECONDS = 60.0
ACTIVITY_INTERVAL_SECONDS = 3600.0


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
    return [
        *_slice_tasks(database, settings, metrics),
        *_batch_tasks(database, settings, metrics),
        *_process_tasks(database, settings),
        *_deletion_tasks(database, settings),
    ]


def _slice_tasks(database: Database, settings: Settings, metrics: MetricsRecorder) -> list[MaintenanceTask]:
    """The tasks that keep slices moving: leases, timestamps and wakeups."""
    sql = database.sql
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
            "wakeups",
            settings.wakeup_resend_seconds,
            lambda: resend_wakeups.resend_lost_wakeups(database, settings),
            event="wakeups.resent",
            has_work=_any_row("batches", "status = 'in_progress'"),
        ),
    ]


def _batch_tasks(database: Database, settings: Settings, metrics: MetricsRecorder) -> list[MaintenanceTask]:
    """The tasks that end batches."""
    now, submit_timeout_seconds = database.sql.now, settings.submit_timeout_seconds
    positions: dict[str, int] = {}
    return [
        MaintenanceTask(
            "deadlines",
            settings.deadline_check_seconds,
            lambda: batch_endings.expire_batches(database, metrics),
            event="batches.expired",
            has_work=" OR ".join(
                _any_row("batches", condition.format(now=now))
                for condition in (batch_endings.IS_PAST_DEADLINE, batch_endings.IS_UNREAD_PAST_DEADLINE)
            ),
        ),
        MaintenanceTask(
            "terminations",
            settings.poll_interval_seconds,
            lambda: batch_endings.finish_terminations(database, positions),
            event="batches.terminated",
            has_work=_any_row("batches", "status = 'cancelling'"),
        ),
        MaintenanceTask(
            "abandoned_submissions",
            min(60.0, submit_timeout_seconds),
            lambda: batch_endings.end_abandoned_batches(database, submit_timeout_seconds),
            event="batches.abandoned",
            has_work=_any_row("batches", "status = 'validating' OR status = 'in_progress' AND ingesting"),
        ),
    ]


def _process_tasks(database: Database, settings: Settings) -> list[MaintenanceTask]:
    """The tasks that start a process each: it runs schedules, sends webhooks or reads files."""
    launcher = ScheduleLauncher(database, settings)
    intake_launcher = IntakeLauncher(database, settings)
    webhook_launcher = WebhookLauncher(database, settings)
    return [
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
    ]


def _deletion_tasks(database: Database, settings: Settings) -> list[MaintenanceTask]:
    """The tasks that delete what is old."""
    return [
        MaintenanceTask(
            "retention",
            RETENTION_INTERVAL_SECONDS,
            lambda: batch_endings.delete_old_batches(database, settings.retention_days),
            event="batches.deleted",
            has_work=_any_row("batches", batch_endings.IS_DELETING) if settings.retention_days is None else "true",
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
            has_work=_any_row("sessions", expired_sessions.HAS_EXPIRED.format(now=database.sql.now)),
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
