"""Watching: whether the runs that are at it will be done in time."""

from datetime import datetime, timedelta

from models.db import Database
from producer.batches import views
from producer.schedules.alerts import events
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs.run_lease import bind_datetimes
from producer.schedules.runs.run_views import RunView

STEP = "its deadline was watched"

CHECK_INTERVAL = timedelta(seconds=30)
NO_DEADLINE_INTERVAL = timedelta(
    days=1
)  # without a deadline there is nothing to look for but the end, which shows by itself
MIN_FORECAST_SECONDS = 30.0  # a forecast from less than that says little

SET_NEXT_CHECK = "UPDATE runs SET look_at = :look_at WHERE schedule = :schedule AND slot = :slot AND state = 'running'"


def watch_deadline(database: Database, run: RunView, now: datetime) -> None:
    """Tell of a run that is at it when it will miss its deadline, or has; and say when to look again."""
    deadline_at = run.deadline_at
    if deadline_at is not None and now >= deadline_at:
        alert_if_overdue(database, run, now)
    elif deadline_at is not None:
        _alert_if_late(database, run, deadline_at, now)
    ahead = NO_DEADLINE_INTERVAL if deadline_at is None or now >= deadline_at else CHECK_INTERVAL
    with database.write() as connection:
        connection.execute(bind_datetimes(SET_NEXT_CHECK, "look_at"), {**run.key, "look_at": now + ahead})


def alert_if_overdue(database: Database, run: RunView, now: datetime) -> bool:
    """Tell of a run whose deadline has passed; whether it has."""
    if run.deadline_at is None or now < run.deadline_at:
        return False
    by = ScheduleDefinition.from_fields(run.schedule, run.definition).format_time(run.deadline_at)
    _record_event(database, run, "overdue", f"it was to be done by {by}", now)
    return True


def _alert_if_late(database: Database, run: RunView, deadline_at: datetime, now: datetime) -> None:
    if run.batch_id is None or run.started_at is None:
        return
    batch = views.get_batch(database, run.batch_id)
    pace, left = batch.jobs_per_second, (deadline_at - now).total_seconds()
    if pace is None:
        if now - run.started_at > (deadline_at - run.started_at) / 2:
            _record_event(database, run, "late", f"half of its time has passed and no worker has begun {batch.id}", now)
        return
    seconds = batch.counts.unanswered / pace
    if (now - run.started_at).total_seconds() > MIN_FORECAST_SECONDS and seconds > left:
        lacking = timedelta(seconds=round(seconds - left))
        _record_event(database, run, "late", f"at {pace:,.0f} jobs/s it will be done {lacking} after its deadline", now)


def _record_event(database: Database, run: RunView, kind: str, message: str, now: datetime) -> None:
    with database.write() as connection:
        events.record_event(
            connection, run.schedule, run.slot, kind, message, occurred_at=now, url=run.definition.get("webhook")
        )
