"""How schedules and their runs look on a terminal. Moments are shown in the schedule's zone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import click

from models import terminal
from models.states import RunState
from producer.results import iso
from producer.schedules.definition import Schedule
from producer.schedules.events import EventView
from producer.schedules.registry import ScheduleView
from producer.schedules.runs import RunView
from producer.schedules.tick import Tick

HEADER = ("SCHEDULE", "STATE", "CRON", "ZONE", "PIPELINE", "LAST SLOT", "CAME TO", "NEXT")
RUNS_HEADER = ("SLOT", "STATE", "BATCH", "ROWS", "REUSED", "FAILED", "TRUNCATED", "DRIFT", "NOTE")
OVERDUE = timedelta(seconds=60)  # a slot that nobody has decided for so long: nobody is there
BAD = (RunState.FAILED, RunState.MISSED)


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule beside its last run."""

    view: ScheduleView
    last: RunView | None
    state: str  # suspended, overdue, late, failed, missed, running, waiting, active

    @property
    def bad(self) -> bool:
        """Whether a person should look."""
        return self.state in ("overdue", "late", "failed", "missed")

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
    return _coloured(terminal.table(HEADER, rows), [standing.bad for standing in standings])


def facts(standing: Standing) -> str:
    """A schedule for a person."""
    view, definition = standing.view, standing.view.definition
    told: list[tuple[str, object]] = [
        ("schedule", view.name),
        ("state", standing.state),
        ("declared", "in batchmill.toml" if view.declared else None),
        ("runs", spelled_times(definition)),
        *((name.replace("_", " "), _told(value)) for name, value in definition.stored().items() if name not in SPELLED),
        ("watermark", view.watermark and _at(view.watermark, definition)),
    ]
    return terminal.facts([(name, value) for name, value in told if value not in (None, "")])


SPELLED = ("cron", "tz")


def spelled_times(definition: Schedule) -> str:
    """When a schedule runs."""
    return f"at {definition.cron} ({definition.tz})"


def next_lines(view: ScheduleView, now: datetime, count: int) -> list[str]:
    """The next slots in the schedule's zone."""
    slots = [_at(slot, view.definition) for slot in _next(view, now, count)]
    return slots or ["none, since it rests" if view.suspended_at else "none"]


def iso_next(view: ScheduleView, now: datetime, count: int) -> list[str]:
    """The same for programs, each with its offset."""
    zone = ZoneInfo(view.definition.tz)
    return [slot.astimezone(zone).isoformat() for slot in _next(view, now, count)]


def history(found: Sequence[RunView], definition: Schedule) -> str:
    """Runs, red where they came to nothing."""
    rows = [_run_line(run, definition) for run in found]
    return _coloured(terminal.table(RUNS_HEADER, rows), [run.state in BAD for run in found])


def event_line(event: EventView, definition: Schedule) -> str:
    """An event in one line."""
    return terminal.printable(f"{_at(event.at, definition)}  {event.kind}: {event.message}")


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
    if last is not None and last.state in BAD:
        return last.state.value
    return "suspended" if view.suspended_at is not None else "active"


def _line(standing: Standing) -> list[object]:
    view, last = standing.view, standing.last
    definition = view.definition
    return [
        view.name, standing.state, definition.cron, definition.tz, definition.pipeline,
        "" if last is None else _at(last.slot, definition), "" if last is None else _came_to(last),
        "" if view.next_at is None else _at(view.next_at, definition),
    ]  # fmt: skip


def _run_line(run: RunView, definition: Schedule) -> list[object]:
    summary = run.summary or {}
    drift = summary.get("drift") or {}
    note = run.error_message or summary.get("changed") or ""
    worst = drift.get("worst")
    return [
        _at(run.slot, definition), run.state.value, run.batch_id or "",
        *(_number(summary.get(name)) for name in ("total", "reused", "failed", "truncated")),
        "" if worst is None else f"{worst:.2f}", terminal.shortened(note, 60),
    ]  # fmt: skip


def _came_to(run: RunView) -> str:
    rows = (run.summary or {}).get("total")
    return run.state.value if rows is None else f"{run.state.value}, {terminal.counted(rows, 'row')}"


def _next(view: ScheduleView, now: datetime, count: int) -> list[datetime]:
    return [] if view.suspended_at is not None else list(islice(view.definition.times.after(now), count))


def _at(moment: datetime, definition: Schedule) -> str:
    return f"{moment.astimezone(ZoneInfo(definition.tz)):%a %Y-%m-%d %H:%M %Z}"


def _coloured(text: str, bad: Sequence[bool]) -> str:
    head, *lines = text.split("\n")
    return "\n".join([head, *(click.style(line, fg="red") if b else line for line, b in zip(lines, bad, strict=True))])


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def _told(value: object) -> object:
    return terminal.compact(value) if isinstance(value, dict | list) else value


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)
