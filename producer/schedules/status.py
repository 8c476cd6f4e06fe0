"""The status of a schedule, from its last run and from whether its due runs get planned."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from models.db import Database
from models.errors import UsageError
from models.states import RunState
from producer.schedules import registry
from producer.schedules.history import past
from producer.schedules.history.past import PastSchedule
from producer.schedules.runs import run_views
from producer.schedules.runs.run_views import RunView, iso_or_none
from producer.schedules.schedule_view import ScheduleView

OVERDUE_AFTER = timedelta(seconds=60)  # no run was planned for this long, so no worker is up
UNSUCCESSFUL_STATES = (RunState.FAILED, RunState.MISSED)


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """A schedule with its last run."""

    view: ScheduleView
    last_run: RunView | None
    state: str  # suspended, overdue, late, failed, missed, skipped, running, waiting, active

    @property
    def needs_attention(self) -> bool:
        """Whether a person should look at the schedule."""
        return self.state in ("overdue", "late", "failed", "missed", "skipped")

    def as_dict(self) -> dict[str, Any]:
        """Return the status as `--json` prints it; these names are stable."""
        view = self.view
        times = {
            name: iso_or_none(getattr(view, name))
            for name in ("next_run_at", "watermark", "suspended_at", "created_at")
        }
        return {
            "object": "schedule",
            "name": view.name,
            "state": self.state,
            "tenant": view.tenant,
            "from_config": view.from_config,
            "definition": view.definition.dump_redacted(),
            **times,
            "last_run": None if self.last_run is None else self.last_run.as_dict(),
        }


def status_for(view: ScheduleView, last_run: RunView | None, now: datetime) -> ScheduleStatus:
    """Return the status of a schedule at `now`."""
    return ScheduleStatus(view, last_run, _state(view, last_run, now))


def list_statuses(
    database: Database, now: datetime, tenant: str | None = None, without: Collection[str] = ()
) -> list[ScheduleStatus]:
    """Return the status of every schedule, by name; raises Unreachable, and UsageError for an unreadable one.

    tenant: to whom they belong; None = to anybody
    without: names of some that are left out
    """
    last_runs = run_views.last_run_by_schedule(database)
    views = registry.list_schedules(database, tenant, without)
    return [status_for(view, last_runs.get(view.name), now) for view in views]


def list_readable(
    database: Database, now: datetime, tenant: str | None = None
) -> tuple[list[ScheduleStatus], list[PastSchedule]]:
    """Return the status of every schedule that this version can read, and the others, both by name.

    tenant: to whom they belong; None = to anybody
    """
    try:
        return list_statuses(database, now, tenant), []
    except UsageError:
        unreadable = past.list_unreadable(database, tenant)
        return list_statuses(database, now, tenant, {schedule.name for schedule in unreadable}), unreadable


def _state(view: ScheduleView, last_run: RunView | None, now: datetime) -> str:
    if view.next_run_at is not None and now - view.next_run_at > OVERDUE_AFTER:
        return "overdue"
    if last_run is not None and last_run.state.is_open:
        is_late = last_run.deadline_at is not None and now > last_run.deadline_at
        return "late" if is_late else last_run.state.value
    if view.suspended_at is not None:
        return "suspended"
    if last_run is not None and (last_run.state in UNSUCCESSFUL_STATES or last_run.state is RunState.SKIPPED):
        return last_run.state.value
    return "active"
