"""Standing: how a schedule is doing, by its last run and whether anybody looks after it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from models.db import Database
from models.states import RunState
from producer.schedules import registry
from producer.schedules.registry import ScheduleView
from producer.schedules.runs import run_views
from producer.schedules.runs.run_views import RunView, iso_or_none

OVERDUE_AFTER = timedelta(seconds=60)  # a slot that nobody has decided for so long: nobody is there
UNSUCCESSFUL_STATES = (RunState.FAILED, RunState.MISSED)


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """A schedule beside its last run."""

    view: ScheduleView
    last_run: RunView | None
    state: str  # suspended, overdue, late, failed, missed, skipped, running, waiting, active

    @property
    def needs_attention(self) -> bool:
        """Whether a person should look."""
        return self.state in ("overdue", "late", "failed", "missed", "skipped")

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it; these names stay."""
        view = self.view
        moments = {
            name: iso_or_none(getattr(view, name)) for name in ("next_at", "watermark", "suspended_at", "created_at")
        }
        return {
            "object": "schedule",
            "name": view.name,
            "state": self.state,
            "declared": view.from_config,
            "definition": view.definition.dump_redacted(),
            **moments,
            "last_run": None if self.last_run is None else self.last_run.as_dict(),
        }


def status_for(view: ScheduleView, last_run: RunView | None, now: datetime) -> ScheduleStatus:
    """How a schedule stands at this moment."""
    return ScheduleStatus(view, last_run, _state(view, last_run, now))


def list_statuses(database: Database, now: datetime) -> list[ScheduleStatus]:
    """How all of them do, by name; raises Unreachable, and UsageError where one can't be read."""
    last = run_views.last_run_by_schedule(database)
    return [status_for(view, last.get(view.name), now) for view in registry.list_schedules(database)]


def _state(view: ScheduleView, last_run: RunView | None, now: datetime) -> str:
    if view.next_at is not None and now - view.next_at > OVERDUE_AFTER:
        return "overdue"
    if last_run is not None and last_run.state.is_open:
        late = last_run.deadline_at is not None and now > last_run.deadline_at
        return "late" if late else last_run.state.value
    if last_run is not None and (last_run.state in UNSUCCESSFUL_STATES or last_run.state is RunState.SKIPPED):
        return last_run.state.value
    return "suspended" if view.suspended_at is not None else "active"
