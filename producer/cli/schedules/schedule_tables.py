"""How schedules look on a terminal. Moments are shown in the schedule's zone."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

from models.privacy import terminal
from producer.cli.schedules import run_tables
from producer.schedules.definition import Schedule
from producer.schedules.registry import ScheduleView
from producer.schedules.runs.run_views import RunView
from producer.schedules.runs.tick import Tick
from producer.schedules.status import Standing

HEADER = ("SCHEDULE", "STATE", "CRON", "ZONE", "PIPELINE", "LAST SLOT", "CAME TO", "NEXT")


def table(standings: Sequence[Standing]) -> str:
    """All schedules, red where a person should look."""
    rows = [_line(standing) for standing in standings]
    return run_tables.coloured(terminal.table(HEADER, rows), map(_colour, standings))


def facts(standing: Standing, slots: Sequence[str]) -> str:
    """A schedule for a person, with its next slots."""
    view, definition = standing.view, standing.view.definition
    told: list[tuple[str, object]] = [
        ("schedule", view.name),
        ("state", standing.state),
        ("declared", "in batchmill.toml" if view.declared else None),
        ("runs", spelled_times(definition)),
        *((name.replace("_", " "), _told(value)) for name, value in definition.shown().items() if name not in SPELLED),
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
    return None if standing.last is None else run_tables.colour(standing.last)


def _came_to(run: RunView) -> str:
    rows = (run.summary or {}).get("total")
    parts = [run.state.value if rows is None else f"{run.state.value}, {terminal.counted(rows, 'row')}"]
    return ", ".join([*parts, "drifted"] if run_tables.alarms(run) else parts)


def _next(view: ScheduleView, now: datetime, count: int) -> list[datetime]:
    return [] if view.suspended_at is not None else list(islice(view.definition.times.after(now), count))


def _told(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return terminal.compact(value) if isinstance(value, dict | list) else value
