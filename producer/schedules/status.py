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

OVERDUE = timedelta(seconds=60)  # a slot that nobody has decided for so long: nobody is there
BAD = (RunState.FAILED, RunState.MISSED)


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule beside its last run."""

    view: ScheduleView
    last: RunView | None
    state: str  # suspended, overdue, late, failed, missed, skipped, running, waiting, active

    @property
    def bad(self) -> bool:
        """Whether a person should look."""
        return self.state in ("overdue", "late", "failed", "missed", "skipped")

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it; these names stay."""
        view = self.view
        moments = {
            name: iso_or_none(getattr(view, name)) for name in ("next_at", "watermark", "suspended_at", "created_at")
        }
        return {
            "object": "schedule", "name": view.name, "state": self.state, "declared": view.declared,
            "definition": view.definition.shown(), **moments,
            "last_run": None if self.last is None else self.last.as_dict(),
        }  # fmt: skip


def of(view: ScheduleView, last: RunView | None, now: datetime) -> Standing:
    """How a schedule stands at this moment."""
    return Standing(view, last, _state(view, last, now))


def of_all(database: Database, now: datetime) -> list[Standing]:
    """How all of them do, by name; raises Unreachable, and UsageError where one can't be read."""
    last = run_views.last_of_each(database)
    return [of(view, last.get(view.name), now) for view in registry.listed(database)]


def _state(view: ScheduleView, last: RunView | None, now: datetime) -> str:
    if view.next_at is not None and now - view.next_at > OVERDUE:
        return "overdue"
    if last is not None and last.state.open:
        late = last.deadline_at is not None and now > last.deadline_at
        return "late" if late else last.state.value
    if last is not None and (last.state in BAD or last.state is RunState.SKIPPED):
        return last.state.value
    return "suspended" if view.suspended_at is not None else "active"
