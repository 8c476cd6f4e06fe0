"""How runs and events of a schedule look on a terminal. Moments are shown in the schedule's zone."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

import click

from models.privacy import terminal
from models.states import RunState, RunTrigger
from producer.schedules.alerts.events import EventKind, EventView
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.quality.drift import MODEL_CHANGED_PREFIX
from producer.schedules.runs.run_views import RunView
from producer.schedules.status import UNSUCCESSFUL_STATES

COUNT_COLUMNS = ("total", "computed", "reused", "failed", "truncated")
RUNS_HEADER = ("SLOT", "STATE", "ROWS", *(name.upper() for name in COUNT_COLUMNS[1:]), "DRIFT", "NOTE")
EVENTS_HEADER = ("SLOT", "EVENT", "WHAT HAPPENED")
NOTE_WIDTH = 80
MIN_CATCHUP_DELAY = timedelta(minutes=5)  # begun so long after its slot: nobody was there when it came
TRIGGER_LABELS = {RunTrigger.MANUAL: "by hand", RunTrigger.BACKFILL: "run again"}
LEVEL_COLOURS = {"error": "red", "warning": "yellow", "info": None}


def format_runs(runs: Sequence[RunView], definition: ScheduleDefinition) -> str:
    """Runs, the latest first; each in its `colour`."""
    rows = [_run_row(run, definition) for run in runs]
    return colour_lines(terminal.format_table(RUNS_HEADER, rows), map(run_colour, runs))


def format_events(events: Sequence[EventView], definition: ScheduleDefinition) -> str:
    """Events, red and yellow as they are errors and warnings."""
    rows = [
        (
            definition.format_time(event.scheduled_at or event.occurred_at),
            event.kind.replace("_", " "),
            event.message.removeprefix(MODEL_CHANGED_PREFIX),
        )
        for event in events
    ]
    return colour_lines(
        terminal.format_table(EVENTS_HEADER, rows), [LEVEL_COLOURS[EventKind(event.kind).log_level] for event in events]
    )


def has_drifted(run: RunView) -> bool:
    """Whether results have moved further than the schedule allows."""
    limit, moved = run.definition.get("alert_drift"), (run.summary or {}).get("drift")
    return limit is not None and moved is not None and moved["worst"] > limit


def describe_lateness(run: RunView) -> str | None:
    """How far from its time a run began and ended, where that is worth a word."""
    parts = []
    if run.started_at is not None and run.cause is RunTrigger.CRON and run.decided_at - run.slot > MIN_CATCHUP_DELAY:
        parts.append(f"caught up {format_duration(run.decided_at - run.slot)} late")
    left = time_left(run)
    if left is not None and left < timedelta():
        parts.append(f"done {format_duration(-left)} after its deadline")
    return ", ".join(parts) or None


def time_left(run: RunView) -> timedelta | None:
    """How long before its deadline a run completed; negative where after it."""
    if run.state is not RunState.COMPLETED or run.finished_at is None or run.deadline_at is None:
        return None
    return run.deadline_at - run.finished_at


def run_colour(run: RunView) -> str | None:
    """Red where a run came to nothing, yellow where it was late or its results have moved."""
    return (
        "red" if run.state in UNSUCCESSFUL_STATES else "yellow" if has_drifted(run) or describe_lateness(run) else None
    )


def colour_lines(text: str, colours: Iterable[str | None]) -> str:
    """A table with its lines in these colours."""
    head, *lines = text.split("\n")
    painted = (click.style(line, fg=colour) if colour else line for line, colour in zip(lines, colours, strict=True))
    return "\n".join([head, *painted])


def format_duration(span: timedelta) -> str:
    """A span of time to the minute."""
    hours, minutes = divmod(round(span.total_seconds() / 60), 60)
    return " ".join(f"{count} {unit}" for count, unit in ((hours, "h"), (minutes, "min")) if count) or "a moment"


def _run_row(run: RunView, definition: ScheduleDefinition) -> list[object]:
    summary = run.summary or {}
    worst = (summary.get("drift") or {}).get("worst")
    return [
        definition.format_time(run.slot),
        run.state.value,
        *(summary.get(name) for name in COUNT_COLUMNS),
        None if worst is None else f"{worst:.2f}",
        terminal.shorten(_note_text(run), NOTE_WIDTH),
    ]


def _note_text(run: RunView) -> str:
    summary = run.summary or {}
    parts = [
        run.error_message,
        TRIGGER_LABELS.get(run.cause),
        describe_lateness(run),
        (summary.get("drift") or {}).get("sentence"),
        "another model" if summary.get("changed") else None,
    ]
    return "; ".join(part for part in parts if part)
