"""Watching: whether the runs that are at it will be done in time."""

from datetime import datetime, timedelta

from models.db import Database
from producer.batches import views
from producer.schedules.alerts import events
from producer.schedules.definition import Schedule
from producer.schedules.runs.run_lease import at_moments
from producer.schedules.runs.run_views import RunView

STEP = "its deadline was watched"

LOOK_EVERY = timedelta(seconds=30)
LONG = timedelta(days=1)  # without a deadline there is nothing to look for but the end, which shows by itself
SURE_SECONDS = 30.0  # a forecast from less than that says little

LOOK = "UPDATE runs SET look_at = :look_at WHERE schedule = :schedule AND slot = :slot AND state = 'running'"


def watch(database: Database, run: RunView, now: datetime) -> None:
    """Tell of a run that is at it when it will miss its deadline, or has; and say when to look again."""
    deadline_at = run.deadline_at
    if deadline_at is not None and now >= deadline_at:
        told_overdue(database, run, now)
    elif deadline_at is not None:
        _forecast(database, run, deadline_at, now)
    ahead = LONG if deadline_at is None or now >= deadline_at else LOOK_EVERY
    with database.write() as connection:
        connection.execute(at_moments(LOOK, "look_at"), {**run.key, "look_at": now + ahead})


def told_overdue(database: Database, run: RunView, now: datetime) -> bool:
    """Tell of a run whose deadline has passed; whether it has."""
    if run.deadline_at is None or now < run.deadline_at:
        return False
    by = Schedule.of(run.schedule, run.definition).spelled(run.deadline_at)
    _note(database, run, "overdue", f"it was to be done by {by}", now)
    return True


def _forecast(database: Database, run: RunView, deadline_at: datetime, now: datetime) -> None:
    if run.batch_id is None or run.started_at is None:
        return
    batch = views.get(database, run.batch_id)
    pace, left = batch.jobs_per_second, (deadline_at - now).total_seconds()
    if pace is None:
        if now - run.started_at > (deadline_at - run.started_at) / 2:
            _note(database, run, "late", f"half of its time has passed and no worker has begun {batch.id}", now)
        return
    seconds = batch.counts.open / pace
    if (now - run.started_at).total_seconds() > SURE_SECONDS and seconds > left:
        lacking = timedelta(seconds=round(seconds - left))
        _note(database, run, "late", f"at {pace:,.0f} jobs/s it will be done {lacking} after its deadline", now)


def _note(database: Database, run: RunView, kind: str, message: str, now: datetime) -> None:
    with database.write() as connection:
        events.note(connection, run.schedule, run.slot, kind, message, at=now, url=run.definition.get("webhook"))
