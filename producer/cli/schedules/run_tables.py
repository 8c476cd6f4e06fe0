"""How runs and events of a schedule look on a terminal. Moments are shown in the schedule's zone."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

import click

from models.privacy import terminal
from models.states import Cause, RunState
from producer.schedules.alerts.events import EventView, Kind
from producer.schedules.definition import Schedule
from producer.schedules.quality.drift import CHANGED
from producer.schedules.runs.run_views import RunView
from producer.schedules.status import BAD

COUNTED = ("total", "computed", "reused", "failed", "truncated")
RUNS_HEADER = ("SLOT", "STATE", "ROWS", *(name.upper() for name in COUNTED[1:]), "DRIFT", "NOTE")
EVENTS_HEADER = ("SLOT", "EVENT", "WHAT HAPPENED")
NOTE_WIDTH = 80
CAUGHT_UP = timedelta(minutes=5)  # begun so long after its slot: nobody was there when it came
CAUSES = {Cause.TRIGGER: "by hand", Cause.BACKFILL: "run again"}
LEVELS = {"error": "red", "warning": "yellow", "info": None}


def history(found: Sequence[RunView], definition: Schedule) -> str:
    """Runs, the latest first; each in its `colour`."""
    rows = [_run_line(run, definition) for run in found]
    return coloured(terminal.table(RUNS_HEADER, rows), map(colour, found))


def happened(found: Sequence[EventView], definition: Schedule) -> str:
    """Events, red and yellow as they are errors and warnings."""
    rows = [
        (definition.spelled(event.slot or event.at), event.kind.replace("_", " "), event.message.removeprefix(CHANGED))
        for event in found
    ]
    return coloured(terminal.table(EVENTS_HEADER, rows), [LEVELS[Kind(event.kind).level] for event in found])


def alarms(run: RunView) -> bool:
    """Whether results have moved further than the schedule allows."""
    limit, moved = run.definition.get("alert_drift"), (run.summary or {}).get("drift")
    return limit is not None and moved is not None and moved["worst"] > limit


def late(run: RunView) -> str | None:
    """How far from its time a run began and ended, where that is worth a word."""
    parts = []
    if run.started_at is not None and run.cause is Cause.CRON and run.decided_at - run.slot > CAUGHT_UP:
        parts.append(f"caught up {lasting(run.decided_at - run.slot)} late")
    left = time_left(run)
    if left is not None and left < timedelta():
        parts.append(f"done {lasting(-left)} after its deadline")
    return ", ".join(parts) or None


def time_left(run: RunView) -> timedelta | None:
    """How long before its deadline a run completed; negative where after it."""
    if run.state is not RunState.COMPLETED or run.finished_at is None or run.deadline_at is None:
        return None
    return run.deadline_at - run.finished_at


def colour(run: RunView) -> str | None:
    """Red where a run came to nothing, yellow where it was late or its results have moved."""
    return "red" if run.state in BAD else "yellow" if alarms(run) or late(run) else None


def coloured(text: str, colours: Iterable[str | None]) -> str:
    """A table with its lines in these colours."""
    head, *lines = text.split("\n")
    painted = (click.style(line, fg=colour) if colour else line for line, colour in zip(lines, colours, strict=True))
    return "\n".join([head, *painted])


def lasting(span: timedelta) -> str:
    """A span of time to the minute."""
    hours, minutes = divmod(round(span.total_seconds() / 60), 60)
    return " ".join(f"{count} {unit}" for count, unit in ((hours, "h"), (minutes, "min")) if count) or "a moment"


def _run_line(run: RunView, definition: Schedule) -> list[object]:
    summary = run.summary or {}
    worst = (summary.get("drift") or {}).get("worst")
    return [
        definition.spelled(run.slot), run.state.value, *(summary.get(name) for name in COUNTED),
        None if worst is None else f"{worst:.2f}", terminal.shortened(_note(run), NOTE_WIDTH),
    ]  # fmt: skip


def _note(run: RunView) -> str:
    summary = run.summary or {}
    parts = [
        run.error_message, CAUSES.get(run.cause), late(run), (summary.get("drift") or {}).get("sentence"),
        "another model" if summary.get("changed") else None,
    ]  # fmt: skip
    return "; ".join(part for part in parts if part)
