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
from producer.schedules.definition import EPOCH, Schedule
from producer.schedules.quality.drift import MOST_RUNS
from producer.schedules.quality.stats import Quality
from producer.schedules.registry import ScheduleView
from producer.schedules.runs import run_views
from producer.schedules.runs.run_views import RunView
from producer.schedules.status import BAD

A_DAY, A_MINUTE = timedelta(days=1), timedelta(minutes=1)  # what a person names by a date, and by a time
MOST_EVENTS = 20


@click.command(short_help="Tell how a run was.")
@click.argument("name")
@click.option("--slot", metavar="TIME", help="Which, such as 2026-11-24 or 2026-11-24T02:00; unset: the last one.")
@common.json_option
def report(name: str, slot: str | None, as_json: bool) -> None:
    """Tell how the last run of NAME was: what it took in, how good the results are, how far they moved, what to do.

    TIME is by the schedule's zone.
    """
    settings = Settings.load()
    with common.opened(settings) as database:
        view = registry.get(database, name)
        first, past = _span(slot, view.definition, clock.of(settings, database)())
        run = run_views.latest_in(database, name, first, past)
        if run is None:
            raise NotFound(
                f"{name} has had no slot {'yet' if slot is None else 'then'}: batchmill schedule show {name}"
            )
        before = run_views.completed_before(database, name, run.slot, MOST_RUNS)
        told = events.newest(database, name, MOST_EVENTS, slot=run.slot)
    if as_json:
        terminal.echo_json(run.as_dict() | {"summary": run.summary, "events": [event.as_dict() for event in told]})
        return
    click.echo(_facts(run, view.definition))
    if shown := _gauges(run, before):
        click.echo("\n" + shown)
    if told:
        click.echo("\n" + run_tables.happened(told, view.definition))
    for advice in _advice(run, view):
        terminal.notice("\n" + advice)


def _span(said: str | None, definition: Schedule, now: datetime) -> tuple[datetime, datetime]:
    if said is None:
        return datetime.fromtimestamp(0, UTC), now + A_MINUTE
    try:
        moment = datetime.fromisoformat(said.strip())
        local = moment if moment.tzinfo else moment.replace(tzinfo=definition.times.clock)
        is_day = len(said.strip()) <= len(date.min.isoformat())
        return local.astimezone(UTC), (local + (A_DAY if is_day else A_MINUTE)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"--slot {said[:40]!r} is not a time such as 2026-11-24 or 2026-11-24T02:00") from None


def _facts(run: RunView, definition: Schedule) -> str:
    summary = run.summary or {}
    known: list[tuple[str, object]] = [
        ("schedule", run.schedule),
        ("slot", definition.spelled(run.slot)),
        ("state", _state(run, definition)),
        ("error", run.error_code and f"{run.error_code}: {run.error_message}"),
        ("batch", run.batch_id),
        ("took in", definition.sql and _taken_in(run, definition)),
        ("rows", summary and _counted(summary)),
        ("pace", summary.get("rows_per_second") and f"{summary['rows_per_second']:,.0f} rows/s computed"),
        ("model", summary.get("model") and _model(summary)),
        ("table", definition.into and _table(run, definition)),
    ]
    lines = terminal.facts([(name, value) for name, value in known if value]).split("\n")
    told = (click.style(line, fg=run_tables.colour(run)) if line.startswith("state") else line for line in lines)
    return "\n".join(told)


def _taken_in(run: RunView, definition: Schedule) -> str | None:
    if run.since is None or run.until is None:
        return None
    began = "everything" if run.since == EPOCH else f"what came from {definition.spelled(run.since)} on"
    return f"{began}, before {definition.spelled(run.until)}"


def _state(run: RunView, definition: Schedule) -> str:
    parts = [run.state.value if run.finished_at is None else f"{run.state.value} {definition.spelled(run.finished_at)}"]
    left = run_tables.time_left(run)
    if left is not None and left >= timedelta():
        parts.append(f"{run_tables.lasting(left)} before its deadline")
    return ", ".join([*parts, *filter(None, (run_tables.CAUSES.get(run.cause), run_tables.late(run)))])


def _counted(summary: dict[str, Any]) -> str:
    named = [(name, summary.get(name)) for name in (*run_tables.COUNTED[1:], "expired", "cancelled")]
    told = [f"{count:,} {name}" for name, count in named if count or (count == 0 and name in run_tables.COUNTED)]
    return f"{summary['total']:,}: {', '.join(told)}"


def _model(summary: dict[str, Any]) -> str:
    return f"{summary['model']}@{summary.get('revision') or ''}"


def _table(run: RunView, definition: Schedule) -> str:
    there = "beside the results" if definition.into_source is None else f"in the database of {definition.into_source}"
    kept = "" if run.state is RunState.COMPLETED else ", as the last run that completed left it"
    return f"{definition.into} {there}{kept}"


def _gauges(run: RunView, before: Sequence[RunView]) -> str:
    stored = [one.summary["quality"] for one in (run, *before) if one.summary and one.summary.get("quality")]
    if not stored or not run.summary or not run.summary.get("quality"):
        return ""
    now, *earlier = map(Quality.of, stored)
    moved = {move["what"] for move in (run.summary["drift"] or {}).get("moves", ()) if move["counts"]}
    return quality_table.table(now, earlier, moved)


def _advice(run: RunView, view: ScheduleView) -> list[str]:
    """What a person may do now."""
    name, batch = run.schedule, run.batch_id
    summary = run.summary or {}
    told = []
    if run.state in BAD:
        told.append(f"the next run takes in what this one left; at once: batchmill schedule trigger {name}")
    if summary.get("failed"):
        told.append(f"what failed, and why: batchmill errors {batch}")
    if run.state is RunState.RUNNING:
        told.append(f"how it goes: batchmill watch {batch}")
    if run_tables.alarms(run):
        told.append(f"look at some: batchmill results {batch}")
        slot = run.slot.astimezone(view.definition.times.clock).isoformat()
        told.append(
            "if they are wrong, put right what changed, start workers anew, and run the slot again:\n"
            f"batchmill schedule backfill {name} --from {slot} --to {slot} --again"
        )
    if view.suspended_at is not None:
        told.append(f"{name} rests; go on with: batchmill schedule resume {name}")
    return told
