"""The command `batchmill schedule report`, which shows one run and the quality of its results."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import click

from models import clock
from models.errors import NotFound, UsageError
from models.privacy import terminal
from models.settings import Settings
from models.states import RunState
from producer.cli import common
from producer.cli.schedules import quality_table, run_tables
from producer.cli.schedules.run_tables import COUNT_COLUMNS
from producer.schedules import registry
from producer.schedules.alerts import events
from producer.schedules.definition import EPOCH, ScheduleDefinition
from producer.schedules.quality.drift import MAX_BASELINE_RUNS
from producer.schedules.quality.stats import QualityStats
from producer.schedules.registry import ScheduleView
from producer.schedules.runs import run_views
from producer.schedules.runs.run_views import RunView
from producer.schedules.status import UNSUCCESSFUL_STATES

ONE_DAY, ONE_MINUTE = timedelta(days=1), timedelta(minutes=1)  # the precision of a date and of a time
MAX_EVENTS = 20


@click.command(short_help="Show how a run went.")
@click.argument("name")
@click.option(
    "--scheduled-at",
    metavar="TIME",
    help="The run's time, such as 2026-11-24 or 2026-11-24T02:00; unset: the last run.",
)
@common.json_option
def report(name: str, scheduled_at: str | None, as_json: bool) -> None:
    """Show the last run of NAME: its rows, the quality and drift of its results, and what to do next.

    TIME is in the schedule's zone.
    """
    settings = Settings.load()
    with common.open_database(settings) as database:
        view = registry.get(database, name)
        first, past = _time_range(scheduled_at, view.definition, clock.clock_for(settings, database)())
        run = run_views.latest_run_between(database, name, first, past)
        if run is None:
            raise NotFound(
                f"{name} has had no run {'yet' if scheduled_at is None else 'then'}: batchmill schedule show {name}"
            )
        previous_runs = run_views.completed_runs_before(database, name, run.scheduled_at, MAX_BASELINE_RUNS)
        events_of_run = events.list_newest(database, name, MAX_EVENTS, scheduled_at=run.scheduled_at)
    if as_json:
        terminal.echo_json(
            run.as_dict() | {"summary": run.summary, "events": [event.as_dict() for event in events_of_run]}
        )
        return
    click.echo(_format_run(run, view.definition))
    if quality := _format_quality(run, previous_runs):
        click.echo("\n" + quality)
    if events_of_run:
        click.echo("\n" + run_tables.format_events(events_of_run, view.definition))
    for advice in _suggest_next_steps(run, view):
        terminal.print_notice("\n" + advice)


def _time_range(time_text: str | None, definition: ScheduleDefinition, now: datetime) -> tuple[datetime, datetime]:
    if time_text is None:
        return datetime.fromtimestamp(0, UTC), now + ONE_MINUTE
    try:
        time = datetime.fromisoformat(time_text.strip())
        local = time if time.tzinfo else time.replace(tzinfo=definition.timetable.zone_info)
        is_day = len(time_text.strip()) <= len(date.min.isoformat())
        return local.astimezone(UTC), (local + (ONE_DAY if is_day else ONE_MINUTE)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--scheduled-at {time_text[:40]!r} is not a time such as 2026-11-24 or 2026-11-24T02:00"
        ) from None


def _format_run(run: RunView, definition: ScheduleDefinition) -> str:
    summary = run.summary or {}
    pairs: list[tuple[str, object]] = [
        ("schedule", run.schedule),
        ("scheduled", definition.format_time(run.scheduled_at)),
        ("state", _describe_state(run, definition)),
        ("error", run.error_code and f"{run.error_code}: {run.error_message}"),
        ("batch", run.batch_id),
        ("took in", definition.sql and _describe_source_range(run, definition)),
        ("rows", summary and _format_counts(summary)),
        ("pace", summary.get("rows_per_second") and f"{summary['rows_per_second']:,.0f} rows/s computed"),
        ("model", summary.get("model") and _format_model(summary)),
        ("table", definition.into and _describe_output_table(run, definition)),
    ]
    lines = terminal.format_pairs([(name, value) for name, value in pairs if value]).split("\n")
    styled = (click.style(line, fg=run_tables.run_colour(run)) if line.startswith("state") else line for line in lines)
    return "\n".join(styled)


def _describe_source_range(run: RunView, definition: ScheduleDefinition) -> str | None:
    if run.since is None or run.until is None:
        return None
    start = "everything" if run.since == EPOCH else f"what came from {definition.format_time(run.since)} on"
    return f"{start}, before {definition.format_time(run.until)}"


def _describe_state(run: RunView, definition: ScheduleDefinition) -> str:
    parts = [
        run.state.value if run.finished_at is None else f"{run.state.value} {definition.format_time(run.finished_at)}"
    ]
    margin = run_tables.time_left(run)
    if margin is not None and margin >= timedelta():
        parts.append(f"{run_tables.format_duration(margin)} before its deadline")
    return ", ".join(
        [*parts, *filter(None, (run_tables.TRIGGER_LABELS.get(run.trigger), run_tables.describe_lateness(run)))]
    )


def _format_counts(summary: dict[str, Any]) -> str:
    counts = [(name, summary.get(name)) for name in (*COUNT_COLUMNS[1:], "expired", "cancelled")]
    parts = [f"{count:,} {name}" for name, count in counts if count or (count == 0 and name in COUNT_COLUMNS)]
    return f"{summary['total']:,}: {', '.join(parts)}"


def _format_model(summary: dict[str, Any]) -> str:
    return f"{summary['model']}@{summary.get('revision') or ''}"


def _describe_output_table(run: RunView, definition: ScheduleDefinition) -> str:
    place = "beside the results" if definition.into_source is None else f"in the database of {definition.into_source}"
    state = "" if run.state is RunState.COMPLETED else ", as the last run that completed left it"
    return f"{definition.into} {place}{state}"


def _format_quality(run: RunView, previous_runs: Sequence[RunView]) -> str:
    stats = [view.summary["quality"] for view in (run, *previous_runs) if view.summary and view.summary.get("quality")]
    if not stats or not run.summary or not run.summary.get("quality"):
        return ""
    current, *previous = map(QualityStats.from_dict, stats)
    shifts = (run.summary["drift"] or {}).get("moves", ())
    drifted = {shift["what"] for shift in shifts if shift["counts"]}
    return quality_table.format_quality(current, previous, drifted)


def _suggest_next_steps(run: RunView, view: ScheduleView) -> list[str]:
    """Return sentences about what a person may do next."""
    name, batch = run.schedule, run.batch_id
    summary = run.summary or {}
    advice = []
    if run.state in UNSUCCESSFUL_STATES:
        advice.append(f"the next run takes in what this one left; at once: batchmill schedule trigger {name}")
    if summary.get("failed"):
        advice.append(f"what failed, and why: batchmill errors {batch}")
    if run.state is RunState.RUNNING:
        advice.append(f"how it goes: batchmill watch {batch}")
    if run_tables.has_drifted(run):
        advice.append(f"look at some: batchmill results {batch}")
        scheduled_at = run.scheduled_at.astimezone(view.definition.timetable.zone_info).isoformat()
        advice.append(
            "if they are wrong, put right what changed, restart the workers, and run it again:\n"
            f"batchmill schedule backfill {name} --from {scheduled_at} --to {scheduled_at} --rerun-completed"
        )
    if view.suspended_at is not None:
        advice.append(f"{name} rests; go on with: batchmill schedule resume {name}")
    return advice
