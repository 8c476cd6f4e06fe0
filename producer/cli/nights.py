"""How schedules look on a terminal. Moments are shown in the schedule's zone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from models import terminal
from models.states import RunState
from producer.cli import night
from producer.results import iso
from producer.schedules.definition import Schedule
from producer.schedules.registry import ScheduleView
from producer.schedules.runs import RunView
from producer.schedules.tick import Tick

HEADER = ("SCHEDULE", "STATE", "CRON", "ZONE", "PIPELINE", "LAST SLOT", "CAME TO", "NEXT")
OVERDUE = timedelta(seconds=60)  # a slot that nobody has decided for so long: nobody is there


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
        moments = {name: _iso(getattr(view, name)) for name in ("next_at", "watermark", "suspended_at", "created_at")}
        return {
            "object": "schedule", "name": view.name, "state": self.state, "declared": view.declared,
            "definition": view.definition.stored(), **moments,
            "last_run": None if self.last is None else self.last.as_dict(),
        }  # fmt: skip


def standing(view: ScheduleView, last: RunView | None, now: datetime) -> Standing:
    """How a schedule stands at this moment."""
    return Standing(view, last, _state(view, last, now))


def table(standings: Sequence[Standing]) -> str:
    """All schedules, red where a person should look."""
    rows = [_line(standing) for standing in standings]
    return night.coloured(terminal.table(HEADER, rows), map(_colour, standings))


def facts(standing: Standing, slots: Sequence[str]) -> str:
    """A schedule for a person, with its next slots."""
    view, definition = standing.view, standing.view.definition
    told: list[tuple[str, object]] = [
        ("schedule", view.name),
        ("state", standing.state),
        ("declared", "in batchmill.toml" if view.declared else None),
        ("runs", spelled_times(definition)),
        *((name.replace("_", " "), _told(value)) for name, value in definition.stored().items() if name not in SPELLED),
        ("watermark", view.watermark and definition.spelled(view.watermark)),
    ]
    told = [(name, value) for name, value in told if value not in (None, "")]
    return terminal.facts([*told, *zip(("next", *[""] * len(slots)), slots, strict=False)])


SPELLED = ("cron", "tz")


def spelled_times(definition: Schedule) -> str:
    """When a schedule runs."""
    return f"at {definition.cron} ({definition.tz})"


def next_lines(view: ScheduleView, now: datetime, count: int) -> list[str]:
    """The next slots in the schedule's zone."""
    slots = [view.definition.spelled(slot) for slot in _next(view, now, count)]
    return slots or ["none, since it rests" if view.suspended_at else "none"]


def iso_next(view: ScheduleView, now: datetime, count: int) -> list[str]:
    """The same for programs, each with its offset."""
    zone = ZoneInfo(view.definition.tz)
    return [slot.astimezone(zone).isoformat() for slot in _next(view, now, count)]


def told(done: Tick) -> str:
    """What a tick did."""
    if not done:
        return "nothing was due"
    parts = [
        (done.decided, "slot", "decided"), (done.read, "source", "looked at"), (done.ended, "run", "ended"),
        (done.sent, "event", "sent"),
    ]  # fmt: skip
    return ", ".join(f"{terminal.counted(count, noun)} {verb}" for count, noun, verb in parts if count)


def _state(view: ScheduleView, last: RunView | None, now: datetime) -> str:
    if view.next_at is not None and now - view.next_at > OVERDUE:
        return "overdue"
    if last is not None and last.state.open:
        late = last.deadline_at is not None and now > last.deadline_at
        return "late" if late else last.state.value
    if last is not None and (last.state in night.BAD or last.state is RunState.SKIPPED):
        return last.state.value
    return "suspended" if view.suspended_at is not None else "active"


def _line(standing: Standing) -> list[object]:
    view, last = standing.view, standing.last
    definition = view.definition
    return [
        view.name, standing.state, definition.cron, definition.tz, definition.pipeline,
        "" if last is None else definition.spelled(last.slot), "" if last is None else _came_to(last),
        "" if view.next_at is None else definition.spelled(view.next_at),
    ]  # fmt: skip


def _colour(standing: Standing) -> str | None:
    if standing.bad:
        return "red"
    return None if standing.last is None else night.colour(standing.last)


def _came_to(run: RunView) -> str:
    rows = (run.summary or {}).get("total")
    parts = [run.state.value if rows is None else f"{run.state.value}, {terminal.counted(rows, 'row')}"]
    return ", ".join([*parts, "drifted"] if night.alarms(run) else parts)


def _next(view: ScheduleView, now: datetime, count: int) -> list[datetime]:
    return [] if view.suspended_at is not None else list(islice(view.definition.times.after(now), count))


def _told(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return terminal.compact(value) if isinstance(value, dict | list) else value


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)
