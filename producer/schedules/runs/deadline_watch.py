"""The deadline watch, which alerts when an open run will miss or has missed its deadline."""

from datetime import datetime, timedelta

from models.db import Database
from producer.batches import views
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs import run_alerts
from producer.schedules.runs.run_lease import bind_datetimes
from producer.schedules.runs.run_views import RunView

STEP = "its deadline was watched"

CHECK_INTERVAL = timedelta(seconds=30)
NO_DEADLINE_INTERVAL = timedelta(
    days=1
)  # nothing to check without a deadline; the batch's end makes the run due anyway
MIN_FORECAST_SECONDS = 30.0  # a forecast from less time is unreliable

SET_NEXT_CHECK = """
UPDATE runs SET next_check_at = :next_check_at
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND state = 'running'
"""


def watch_deadline(database: Database, run: RunView, now: datetime) -> None:
    """Record an event if a run will miss its deadline or has missed it, and set the time of the next check."""
    deadline_at = run.deadline_at
    if deadline_at is not None and now >= deadline_at:
        alert_if_overdue(database, run, now)
    elif deadline_at is not None:
        _alert_if_late(database, run, deadline_at, now)
    interval = NO_DEADLINE_INTERVAL if deadline_at is None or now >= deadline_at else CHECK_INTERVAL
    with database.write() as connection:
        connection.execute(
            bind_datetimes(SET_NEXT_CHECK, "next_check_at"), {**run.key, "next_check_at": now + interval}
        )


def alert_if_overdue(database: Database, run: RunView, now: datetime) -> bool:
    """Record an event if the run's deadline has passed; return whether it has."""
    if run.deadline_at is None or now < run.deadline_at:
        return False
    time = ScheduleDefinition.from_fields(run.schedule, run.definition).format_time(run.deadline_at)
    _record_event(database, run, "overdue", f"its deadline was {time}", now)
    return True


def _alert_if_late(database: Database, run: RunView, deadline_at: datetime, now: datetime) -> None:
    if run.batch_id is None or run.started_at is None:
        return
    batch = views.get_batch(database, run.batch_id)
    pace, seconds_left = batch.jobs_per_second, (deadline_at - now).total_seconds()
    if pace is None:
        if now - run.started_at > (deadline_at - run.started_at) / 2:
            _record_event(
                database, run, "late", f"half of its time has passed, and no worker has started {batch.id}", now
            )
        return
    seconds = batch.counts.unanswered / pace
    if (now - run.started_at).total_seconds() > MIN_FORECAST_SECONDS and seconds > seconds_left:
        delay = timedelta(seconds=round(seconds - seconds_left))
        _record_event(database, run, "late", f"at {pace:,.0f} jobs/s it will be done {delay} after its deadline", now)


def _record_event(database: Database, run: RunView, kind: str, message: str, now: datetime) -> None:
    with database.write() as connection:
        run_alerts.record_run_event(connection, run, kind, message, now)
