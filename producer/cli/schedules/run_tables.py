"""Tables of runs and events for the terminal. Times are shown in the schedule's zone."""

from collections.abc import Iterable, Sequence

import click

from models.privacy import terminal
from models.states import RunTrigger
from producer.schedules.alerts.events import EventKind, EventView
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.history.run_verdicts import describe_lateness, has_drifted
from producer.schedules.quality.drift import MODEL_CHANGED_PREFIX
from producer.schedules.runs.run_views import RunView
from producer.schedules.status import UNSUCCESSFUL_STATES

COUNT_COLUMNS = ("total", "computed", "reused", "failed", "truncated")
RUNS_HEADER = ("SCHEDULED", "STATE", "ROWS", *(name.upper() for name in COUNT_COLUMNS[1:]), "DRIFT", "NOTE")
EVENTS_HEADER = ("SCHEDULED", "EVENT", "WHAT HAPPENED")
NOTE_WIDTH = 80
TRIGGER_LABELS = {RunTrigger.MANUAL: "manual", RunTrigger.BACKFILL: "backfill"}
LEVEL_COLOURS = {"error": "red", "warning": "yellow", "info": None}


def format_runs(runs: Sequence[RunView], definition: ScheduleDefinition) -> str:
    """Return a table of runs, latest first, each in its `run_colour`."""
    rows = [_run_row(run, definition) for run in runs]
    return colour_lines(terminal.format_table(RUNS_HEADER, rows), map(run_colour, runs))


def format_events(events: Sequence[EventView], definition: ScheduleDefinition) -> str:
    """Return a table of events, with errors in red and warnings in yellow."""
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


def run_colour(run: RunView) -> str | None:
    """Return red for a failed or missed run, and yellow for a late or drifted one."""
    return (
        "red" if run.state in UNSUCCESSFUL_STATES else "yellow" if has_drifted(run) or describe_lateness(run) else None
    )


def colour_lines(text: str, colours: Iterable[str | None]) -> str:
    """Return a table with its lines in these colours."""
    head, *lines = text.split("\n")
    styled = (click.style(line, fg=colour) if colour else line for line, colour in zip(lines, colours, strict=True))
    return "\n".join([head, *styled])


def _run_row(run: RunView, definition: ScheduleDefinition) -> list[object]:
    summary = run.summary or {}
    max_shift = (summary.get("drift") or {}).get("worst")
    return [
        definition.format_time(run.scheduled_at),
        run.state.value,
        *(summary.get(name) for name in COUNT_COLUMNS),
        None if max_shift is None else f"{max_shift:.2f}",
        terminal.shorten(_note_text(run), NOTE_WIDTH),
    ]


def _note_text(run: RunView) -> str:
    summary = run.summary or {}
    parts = [
        run.error_message,
        TRIGGER_LABELS.get(run.trigger),
        describe_lateness(run),
        (summary.get("drift") or {}).get("sentence"),
        _describe_change(summary.get("changed")),
    ]
    return "; ".join(part for part in parts if part)


def _describe_change(changed: str | None) -> str | None:
    if not changed:
        return None
    return "another model" if changed.startswith(MODEL_CHANGED_PREFIX) else "another guard model"
