"""Tables of schedules for the terminal. Times are shown in the schedule's zone."""

from collections.abc import Sequence
from datetime import datetime

from models.privacy import terminal
from producer.cli.schedules import run_tables
from producer.schedules import reports
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.history import run_verdicts
from producer.schedules.runs.run_views import RunView
from producer.schedules.runs.tick import TickResult
from producer.schedules.schedule_view import ScheduleView
from producer.schedules.status import ScheduleStatus

HEADER = ("SCHEDULE", "STATE", "CRON", "ZONE", "PIPELINE", "LAST RUN", "OUTCOME", "NEXT")


def format_schedules(statuses: Sequence[ScheduleStatus]) -> str:
    """Return a table of all schedules, red if a person should look."""
    rows = [_schedule_row(status) for status in statuses]
    return run_tables.colour_lines(terminal.format_table(HEADER, rows), map(_schedule_colour, statuses))


def format_schedule(status: ScheduleStatus, next_times: Sequence[str]) -> str:
    """Return one schedule with its next scheduled times."""
    view, definition = status.view, status.view.definition
    pairs: list[tuple[str, object]] = [
        ("schedule", view.name),
        ("state", status.state),
        ("defined", "in batchmill.toml" if view.from_config else None),
        ("runs", format_times(definition)),
        *(
            (name.replace("_", " "), _format_value(value))
            for name, value in definition.dump_redacted().items()
            if name not in FIELDS_SHOWN_ELSEWHERE
        ),
        ("watermark", view.watermark and definition.format_time(view.watermark)),
    ]
    pairs = [(name, value) for name, value in pairs if value not in (None, "")]
    return terminal.format_pairs([*pairs, *zip(("next", *[""] * len(next_times)), next_times, strict=False)])


FIELDS_SHOWN_ELSEWHERE = ("cron", "tz", "after")


def format_times(definition: ScheduleDefinition) -> str:
    """Return the cron expression and zone of a schedule, or the one that it runs after."""
    if definition.after is not None:
        return f"after each completed run of {definition.after} ({definition.tz})"
    return f"at {definition.cron} ({definition.tz})"


def format_next_times(view: ScheduleView, now: datetime, count: int) -> list[str]:
    """Return the next scheduled times in the schedule's zone."""
    scheduled_times = [
        view.definition.format_time(scheduled_at) for scheduled_at in reports.next_times(view, now, count)
    ]
    if view.suspended_at is not None:
        return ["none while it is suspended"]
    after = view.definition.after
    return scheduled_times or ["none" if after is None else f"when a run of {after} completes"]


def summarize_tick(result: TickResult) -> str:
    """Return a sentence about the work of a tick."""
    if not result:
        return "nothing was due"
    parts = [
        (result.evaluated, "scheduled time", "evaluated"),
        (result.sources_read, "source", "read"),
        (result.runs_ended, "run", "ended"),
    ]
    return ", ".join(f"{terminal.format_count(count, noun)} {verb}" for count, noun, verb in parts if count)


def _schedule_row(status: ScheduleStatus) -> list[object]:
    view, last = status.view, status.last_run
    definition = view.definition
    return [
        view.name,
        status.state,
        definition.cron if definition.after is None else f"after {definition.after}",
        definition.tz,
        definition.pipeline,
        "" if last is None else definition.format_time(last.scheduled_at),
        "" if last is None else _describe_last_run(last),
        "" if view.next_run_at is None else definition.format_time(view.next_run_at),
    ]


def _schedule_colour(status: ScheduleStatus) -> str | None:
    if status.needs_attention:
        return "red"
    return None if status.last_run is None else run_tables.run_colour(status.last_run)


def _describe_last_run(run: RunView) -> str:
    rows = (run.summary or {}).get("total")
    parts = [run.state.value if rows is None else f"{run.state.value}, {terminal.format_count(rows, 'row')}"]
    return ", ".join([*parts, "drifted"] if run_verdicts.has_drifted(run) else parts)


def _format_value(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return terminal.compact_json(value) if isinstance(value, dict | list) else value
