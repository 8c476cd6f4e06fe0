"""The command `batchmill schedule report`, which shows one run and the quality of its results."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click

from models.privacy import terminal
from models.settings import Settings
from models.states import RunState, RunTrigger
from producer.cli import common
from producer.cli.schedules import quality_table, run_tables
from producer.cli.schedules.run_tables import COUNT_COLUMNS
from producer.schedules import registry, reports
from producer.schedules.definition import EPOCH, ScheduleDefinition
from producer.schedules.history import run_verdicts
from producer.schedules.quality.stats import QualityStats
from producer.schedules.runs.run_views import RunView
from producer.schedules.schedule_view import ScheduleView
from producer.schedules.status import UNSUCCESSFUL_STATES


@click.command(short_help="Show how a run went.")
@click.argument("name")
@click.option(
    "--time",
    "time_text",
    metavar="TIME",
    help="The run's scheduled time, or its day: 2026-11-24 02:00; unset: the last run.",
)
@common.json_option
def report(name: str, time_text: str | None, as_json: bool) -> None:
    """Show the last run of NAME: its rows, the quality and drift of its results, and what to do next.

    TIME is in the schedule's zone.
    """
    settings = Settings.load()
    with common.open_database(settings) as database:
        view = registry.get(database, name)
        run_report = reports.report_run(database, name, time_text)
    if as_json:
        terminal.echo_json(run_report.as_dict())
        return
    run, events_of_run = run_report.run, run_report.events
    click.echo(_format_run(run, view.definition))
    if quality := _format_quality(run, run_report.previous_runs):
        click.echo("\n" + quality)
    if events_of_run:
        click.echo("\n" + run_tables.format_events(events_of_run, view.definition))
    for advice in _suggest_next_steps(run, view):
        terminal.print_notice("\n" + advice)


def _format_run(run: RunView, definition: ScheduleDefinition) -> str:
    summary = run.summary or {}
    pairs: list[tuple[str, object]] = [
        ("schedule", run.schedule),
        ("scheduled", definition.format_time(run.scheduled_at)),
        ("state", _describe_state(run, definition)),
        ("error", run.error_code and f"{run.error_code}: {run.error_message}"),
        ("batch", run.batch_id),
        ("source", _describe_source(run, definition)),
        ("rows", summary.get("total") and _format_counts(summary)),
        ("guards", _format_guards(summary.get("guards", {}))),
        ("pace", summary.get("rows_per_second") and f"{_format_rate(summary['rows_per_second'])} computed"),
        ("model", summary.get("model") and _format_model(summary)),
        ("table", definition.into and _describe_output_table(run, definition)),
    ]
    lines = terminal.format_pairs([(name, value) for name, value in pairs if value]).split("\n")
    styled = (click.style(line, fg=run_tables.run_colour(run)) if line.startswith("state") else line for line in lines)
    return "\n".join(styled)


def _describe_source(run: RunView, definition: ScheduleDefinition) -> str | None:
    if run.source_batch_id is not None:
        return f"the results of {run.source_batch_id}, a run of {run.definition.get('after')}"
    return _describe_source_range(run, definition) if definition.sql else None


def _describe_source_range(run: RunView, definition: ScheduleDefinition) -> str | None:
    if run.since is None or run.until is None:
        return None
    start = "everything" if run.since == EPOCH else f"from {definition.format_time(run.since)} on"
    return f"{start}, before {definition.format_time(run.until)}"


def _describe_state(run: RunView, definition: ScheduleDefinition) -> str:
    parts = [
        run.state.value if run.finished_at is None else f"{run.state.value} {definition.format_time(run.finished_at)}"
    ]
    margin = run_verdicts.time_left(run)
    if margin is not None and margin >= timedelta():
        parts.append(f"{run_verdicts.format_duration(margin)} before its deadline")
    return ", ".join(
        [*parts, *filter(None, (run_tables.TRIGGER_LABELS.get(run.trigger), run_verdicts.describe_lateness(run)))]
    )


def _format_rate(rows_per_second: float) -> str:
    return f"{rows_per_second:,.0f} rows/s" if rows_per_second >= 10 else f"{rows_per_second:.2g} rows/s"


def _format_counts(summary: dict[str, Any]) -> str:
    counts = [(name, summary.get(name)) for name in (*COUNT_COLUMNS[1:], "expired", "cancelled")]
    parts = [f"{count:,} {name}" for name, count in counts if count or (count == 0 and name in COUNT_COLUMNS)]
    return f"{summary['total']:,}: {', '.join(parts)}"


def _format_guards(guards: dict[str, dict[str, int]]) -> str:
    """Return the rows of each guard, such as `injection: 96 passed, 4 blocked`."""
    return "; ".join(
        f"{guard}: {', '.join(f'{count:,} {outcome}' for outcome, count in outcomes.items() if count)}"
        for guard, outcomes in guards.items()
    )


def _format_model(summary: dict[str, Any]) -> str:
    revision = summary.get("revision")  # None if no worker has resolved it
    return f"{summary['model']}@{revision}" if revision else summary["model"]


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
    scheduled_at = run.scheduled_at.astimezone(view.definition.timetable.zone_info).isoformat()
    if run.state in UNSUCCESSFUL_STATES:
        if _is_read_by_next_run(run, view):
            advice.append(f"the next run reads its rows too; to read them now: batchmill schedule trigger {name}")
        elif run.trigger is not RunTrigger.MANUAL:  # a run by hand has no scheduled time to repeat
            repeat = f"batchmill schedule backfill {name} --time {scheduled_at}"
            advice.append(f"the next run does not read its rows; to repeat this run: {repeat}")
    if summary.get("failed"):
        advice.append(f"what failed, and why: batchmill errors {batch}")
    if run.state is RunState.RUNNING:
        advice.append(f"see its progress: batchmill watch {batch}")
    if run_verdicts.has_drifted(run):
        advice.append(f"look at some: batchmill results {batch}")
        advice.append(
            "if they are wrong, put right what changed, restart the workers, and run it again:\n"
            f"batchmill schedule backfill {name} --time {scheduled_at} --rerun-completed"
        )
    if view.suspended_at is not None:
        advice.append(f"{name} is suspended; to continue: batchmill schedule resume {name}")
    return advice


def _is_read_by_next_run(run: RunView, view: ScheduleView) -> bool:
    """Whether the next run covers the source of a failed run: not another file, and not behind the watermark."""
    if view.definition.file is not None or view.definition.after is not None:
        return False
    return run.until is None or view.watermark is None or run.until > view.watermark
