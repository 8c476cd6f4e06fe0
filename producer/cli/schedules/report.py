"""`batchmill schedule report`: how one night was, for whoever comes in the morning."""

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
from producer.schedules import registry
from producer.schedules.alerts import events
from producer.schedules.definition import EPOCH, ScheduleDefinition
from producer.schedules.quality.drift import MAX_BASELINE_RUNS
from producer.schedules.quality.stats import QualityStats
from producer.schedules.registry import ScheduleView
from producer.schedules.runs import run_views
from producer.schedules.runs.run_views import RunView
from producer.schedules.status import UNSUCCESSFUL_STATES

ONE_DAY, ONE_MINUTE = timedelta(days=1), timedelta(minutes=1)  # what a person names by a date, and by a time
MAX_EVENTS = 20


@click.command(short_help="Tell how a run was.")
@click.argument("name")
@click.option("--slot", metavar="TIME", help="Which, such as 2026-11-24 or 2026-11-24T02:00; unset: the last one.")
@common.json_option
def report(name: str, slot: str | None, as_json: bool) -> None:
    """Tell how the last run of NAME was: what it took in, how good the results are, how far they moved, what to do.

    TIME is by the schedule's zone.
    """
    settings = Settings.load()
    with common.open_database(settings) as database:
        view = registry.get(database, name)
        first, past = _time_range(slot, view.definition, clock.clock_for(settings, database)())
        run = run_views.latest_run_between(database, name, first, past)
        if run is None:
            raise NotFound(
                f"{name} has had no slot {'yet' if slot is None else 'then'}: batchmill schedule show {name}"
            )
        before = run_views.completed_runs_before(database, name, run.slot, MAX_BASELINE_RUNS)
        told = events.list_newest(database, name, MAX_EVENTS, scheduled_at=run.slot)
    if as_json:
        terminal.echo_json(run.as_dict() | {"summary": run.summary, "events": [event.as_dict() for event in told]})
        return
    click.echo(_format_run(run, view.definition))
    if shown := _format_quality(run, before):
        click.echo("\n" + shown)
    if told:
        click.echo("\n" + run_tables.format_events(told, view.definition))
    for advice in _suggest_next_steps(run, view):
        terminal.print_notice("\n" + advice)


def _time_range(time_text: str | None, definition: ScheduleDefinition, now: datetime) -> tuple[datetime, datetime]:
    if time_text is None:
        return datetime.fromtimestamp(0, UTC), now + ONE_MINUTE
    try:
        moment = datetime.fromisoformat(time_text.strip())
        local = moment if moment.tzinfo else moment.replace(tzinfo=definition.timetable.zone_info)
        is_day = len(time_text.strip()) <= len(date.min.isoformat())
        return local.astimezone(UTC), (local + (ONE_DAY if is_day else ONE_MINUTE)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"--slot {time_text[:40]!r} is not a time such as 2026-11-24 or 2026-11-24T02:00") from None


def _format_run(run: RunView, definition: ScheduleDefinition) -> str:
    summary = run.summary or {}
    known: list[tuple[str, object]] = [
        ("schedule", run.schedule),
        ("slot", definition.format_time(run.slot)),
        ("state", _describe_state(run, definition)),
        ("error", run.error_code and f"{run.error_code}: {run.error_message}"),
        ("batch", run.batch_id),
        ("took in", definition.sql and _describe_source_range(run, definition)),
        ("rows", summary and _format_counts(summary)),
        ("pace", summary.get("rows_per_second") and f"{summary['rows_per_second']:,.0f} rows/s computed"),
        ("model", summary.get("model") and _format_model(summary)),
        ("table", definition.into and _describe_output_table(run, definition)),
    ]
    lines = terminal.format_pairs([(name, value) for name, value in known if value]).split("\n")
    told = (click.style(line, fg=run_tables.run_colour(run)) if line.startswith("state") else line for line in lines)
    return "\n".join(told)


def _describe_source_range(run: RunView, definition: ScheduleDefinition) -> str | None:
    if run.since is None or run.until is None:
        return None
    began = "everything" if run.since == EPOCH else f"what came from {definition.format_time(run.since)} on"
    return f"{began}, before {definition.format_time(run.until)}"


def _describe_state(run: RunView, definition: ScheduleDefinition) -> str:
    parts = [
        run.state.value if run.finished_at is None else f"{run.state.value} {definition.format_time(run.finished_at)}"
    ]
    left = run_tables.time_left(run)
    if left is not None and left >= timedelta():
        parts.append(f"{run_tables.format_duration(left)} before its deadline")
    return ", ".join(
        [*parts, *filter(None, (run_tables.TRIGGER_LABELS.get(run.cause), run_tables.describe_lateness(run)))]
    )


def _format_counts(summary: dict[str, Any]) -> str:
    named = [(name, summary.get(name)) for name in (*run_tables.COUNT_COLUMNS[1:], "expired", "cancelled")]
    told = [f"{count:,} {name}" for name, count in named if count or (count == 0 and name in run_tables.COUNT_COLUMNS)]
    return f"{summary['total']:,}: {', '.join(told)}"


def _format_model(summary: dict[str, Any]) -> str:
    return f"{summary['model']}@{summary.get('revision') or ''}"


def _describe_output_table(run: RunView, definition: ScheduleDefinition) -> str:
    there = "beside the results" if definition.into_source is None else f"in the database of {definition.into_source}"
    kept = "" if run.state is RunState.COMPLETED else ", as the last run that completed left it"
    return f"{definition.into} {there}{kept}"


def _format_quality(run: RunView, previous_runs: Sequence[RunView]) -> str:
    stored = [one.summary["quality"] for one in (run, *previous_runs) if one.summary and one.summary.get("quality")]
    if not stored or not run.summary or not run.summary.get("quality"):
        return ""
    now, *earlier = map(QualityStats.from_dict, stored)
    moved = {move["what"] for move in (run.summary["drift"] or {}).get("moves", ()) if move["counts"]}
    return quality_table.format_quality(now, earlier, moved)


def _suggest_next_steps(run: RunView, view: ScheduleView) -> list[str]:
    """What a person may do now."""
    name, batch = run.schedule, run.batch_id
    summary = run.summary or {}
    told = []
    if run.state in UNSUCCESSFUL_STATES:
        told.append(f"the next run takes in what this one left; at once: batchmill schedule trigger {name}")
    if summary.get("failed"):
        told.append(f"what failed, and why: batchmill errors {batch}")
    if run.state is RunState.RUNNING:
        told.append(f"how it goes: batchmill watch {batch}")
    if run_tables.has_drifted(run):
        told.append(f"look at some: batchmill results {batch}")
        slot = run.slot.astimezone(view.definition.timetable.zone_info).isoformat()
        told.append(
            "if they are wrong, put right what changed, start workers anew, and run the slot again:\n"
            f"batchmill schedule backfill {name} --from {slot} --to {slot} --again"
        )
    if view.suspended_at is not None:
        told.append(f"{name} rests; go on with: batchmill schedule resume {name}")
    return told
