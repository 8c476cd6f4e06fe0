"""Reports: one schedule with its next times, runs and events, and one run with the quality of its results."""

from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from models.db import Database
from models.documents import format_timestamp
from models.errors import NotFound
from producer.advice import see_schedule
from producer.schedules import registry, status
from producer.schedules.alerts import events
from producer.schedules.alerts.events import EventView
from producer.schedules.history import past
from producer.schedules.quality.drift import MAX_BASELINE_RUNS
from producer.schedules.runs import run_views
from producer.schedules.runs.run_summary import without_mean_vector
from producer.schedules.runs.run_views import RunView
from producer.schedules.schedule_view import ScheduleView
from producer.schedules.status import ScheduleStatus
from producer.times import parse_time_range

MAX_NEXT_TIMES = 5
MAX_RUNS, MAX_EVENTS = 7, 5
MAX_EVENTS_OF_RUN = 20


@dataclass(frozen=True, slots=True)
class ScheduleReport:
    """A schedule with its last runs and events."""

    status: ScheduleStatus
    next_times: list[datetime]
    runs: list[RunView]
    events: list[EventView]

    def as_dict(self) -> dict[str, Any]:
        """Return the schedule as `schedule show --json` prints it."""
        return self.status.as_dict() | {
            "next": list(map(format_timestamp, self.next_times)),
            "runs": [run.as_dict() for run in self.runs],
            "events": [event.as_dict() for event in self.events],
        }


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run with its events, and the completed runs that it is compared with, latest first."""

    run: RunView
    previous_runs: list[RunView]
    events: list[EventView]

    def as_dict(self) -> dict[str, Any]:
        """Return the run as `schedule report --json` prints it."""
        return self.run.as_dict() | {
            "summary": without_mean_vector(self.run.summary),
            "events": [event.as_dict() for event in self.events],
        }


def next_times(view: ScheduleView, now: datetime, count: int = MAX_NEXT_TIMES) -> list[datetime]:
    """Return the next scheduled times; none while the schedule is suspended."""
    return [] if view.suspended_at is not None else list(islice(view.definition.timetable.times_after(now), count))


def report_schedule(database: Database, name: str, now: datetime, tenant: str | None = None) -> ScheduleReport:
    """Return the report of one schedule; raises NotFound.

    tenant: to whom it must belong; None = to anybody
    """
    view = registry.get(database, name, tenant)
    runs = run_views.newest_runs(database, name, MAX_RUNS)
    newest_events = events.list_newest(database, name, MAX_EVENTS)
    schedule_status = status.status_for(view, runs[0] if runs else None, now)
    return ScheduleReport(schedule_status, next_times(view, now), runs, newest_events)


def report_run(database: Database, name: str, time_text: str | None, tenant: str | None = None) -> RunReport:
    """Return the report of one run; raises NotFound, and UsageError for a text that is no time.

    time_text: the run's scheduled time, or its day, in the schedule's zone; None = the last run
    tenant: to whom the schedule must belong; None = to anybody
    """
    view = registry.get(database, name, tenant)
    if time_text is None:
        run = next(iter(run_views.newest_runs(database, name, 1)), None)
    else:
        time_range = parse_time_range(time_text, view.definition.timetable.zone_info)
        run = run_views.latest_run_between(database, name, *time_range)
    if run is None:
        when = "yet" if time_text is None else "then"
        raise NotFound(f"{name} has had no run {when}; " + see_schedule(name))
    return _report(database, run)


def report_run_at(database: Database, name: str, scheduled_at: datetime, tenant: str | None = None) -> RunReport:
    """Return the report of the run of exactly this time, also of a deleted schedule; raises NotFound.

    tenant: to whom the schedule must belong; None = to anybody
    """
    return _report(database, find_run_at(database, name, scheduled_at, tenant))


def find_run_at(database: Database, name: str, scheduled_at: datetime, tenant: str | None = None) -> RunView:
    """Return the run of exactly this time, also of a deleted schedule; raises NotFound.

    tenant: to whom the schedule must belong; None = to anybody
    """
    past.find(database, name, tenant)
    run = run_views.find_run(database, name, scheduled_at)
    if run is None:
        raise NotFound(f"{name} has had no run then; " + see_schedule(name))
    return run


def _report(database: Database, run: RunView) -> RunReport:
    name = run.schedule
    previous_runs = run_views.completed_runs_before(database, name, run.scheduled_at, MAX_BASELINE_RUNS)
    events_of_run = events.list_newest(database, name, MAX_EVENTS_OF_RUN, scheduled_at=run.scheduled_at)
    return RunReport(run, previous_runs, events_of_run)
