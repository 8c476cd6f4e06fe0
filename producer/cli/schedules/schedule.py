"""`batchmill schedule`: what runs every night."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import click

from models import background, clock, failpoints, log
from models.db import Database
from models.lifecycle import due_runs
from models.pipelines.catalogue import Catalogue
from models.privacy import terminal
from models.settings import Settings, config_file
from producer.batches import workers
from producer.cli import common
from producer.cli.schedules import run_tables, schedule_tables
from producer.cli.schedules.options import definition_options
from producer.cli.schedules.report import report
from producer.schedules import metrics, registry, status, validation
from producer.schedules.alerts import events
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs import manual_runs, run_views
from producer.schedules.runs import tick as ticking

MAX_NEXT_TIMES, MAX_RUNS, MAX_EVENTS = 5, 7, 5


class _DateTimeParam(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """ISO 8601; without a zone it is this machine's."""
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(str(value).strip()).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time such as 2026-11-24 or 2026-11-24T02:00+01:00", param, ctx)


DATETIME = _DateTimeParam()


@click.group(short_help="Run a pipeline every night.")
def schedule() -> None:
    """Run a pipeline at set times over what has become new.

    Workers and `batchmill foreman` look after schedules. A slot gets exactly one run, whoever was down when it came.
    """


@schedule.command(short_help="Add a schedule.")
@click.argument("name")
@definition_options
@click.option("--replace", is_flag=True, help="Change the schedule of this name; its history and watermark stay.")
def create(name: str, replace: bool, **given: Any) -> None:
    """Add a schedule called NAME. The same may stand in batchmill.toml as [schedules.NAME]: batchmill schedule sync."""
    fields = {field: _tuple_to_list(value) for field, value in given.items() if value not in (None, (), {})}
    settings = Settings.load()
    definition = validation.validate(name, fields, settings, Catalogue.load(settings))
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        registry.create(database, definition, now, replace=replace)
        click.echo(f"{name} runs {schedule_tables.format_times(definition)}; next:")
        _echo_next_times(registry.get(database, name), now)
        if definition.into is not None and definition.id is None:
            terminal.print_notice(f"{definition.into} finds rows again by the column custom_id, or id; or --id COLUMN")
        _print_warnings([definition], settings)
        _warn_if_no_worker(database)


@schedule.command(short_help="List schedules.")
@common.json_option
def ls(as_json: bool) -> None:
    """List the schedules, with their last and next runs; what needs a look is red."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        views = status.list_statuses(database, now)
    if as_json:
        terminal.echo_list([view.as_dict() for view in views])
    elif views:
        click.echo(schedule_tables.format_schedules(views))
    else:
        terminal.print_notice("there are no schedules yet; add one: batchmill schedule create NAME --cron …")


@schedule.command(short_help="Show one schedule.")
@click.argument("name")
@common.json_option
def show(name: str, as_json: bool) -> None:
    """Show what schedule NAME says, its next five runs in its zone, its last ones, and what happened."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        view = registry.get(database, name)
        past = run_views.newest_runs(database, name, MAX_RUNS)
        told = events.list_newest(database, name, MAX_EVENTS)
    stands = status.status_for(view, past[0] if past else None, now)
    if as_json:
        document = stands.as_dict() | {"next": schedule_tables.iso_next_times(view, now, MAX_NEXT_TIMES)}
        runs_told = {"runs": [run.as_dict() for run in past], "events": [event.as_dict() for event in told]}
        terminal.echo_json(document | runs_told)
        return
    click.echo(schedule_tables.format_schedule(stands, schedule_tables.format_next_times(view, now, MAX_NEXT_TIMES)))
    if past:
        click.echo("\n" + run_tables.format_runs(past, view.definition))
    if told:
        click.echo("\n" + run_tables.format_events(told, view.definition))
    if past:
        terminal.print_notice(f"\nmore on the last one: batchmill schedule report {name}")


@schedule.command(short_help="Let a schedule rest.")
@click.argument("name")
def suspend(name: str) -> None:
    """Let no slot of NAME come until it is resumed; a run that is at it goes on."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        registry.suspend(database, name, clock.clock_for(settings, database)())
    click.echo(f"{name} rests; go on with: batchmill schedule resume {name}")


@schedule.command(short_help="Go on with a schedule.")
@click.argument("name")
def resume(name: str) -> None:
    """Go on with NAME from its next slot; those that it rested through are not caught up (see backfill)."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        registry.resume(database, name, now)
        click.echo(f"{name} goes on; next:")
        _echo_next_times(registry.get(database, name), now)


@schedule.command(short_help="Run a schedule now.")
@click.argument("name")
def trigger(name: str) -> None:
    """Run NAME for this moment, besides its slots: everything since the last run that completed."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        batch_id = manual_runs.trigger(database, Catalogue.load(settings), name, clock.clock_for(settings, database)())
        click.echo(batch_id)
        terminal.print_notice(f"see how it goes: batchmill schedule history {name}, or batchmill watch {batch_id}")
        _warn_if_no_worker(database)


@schedule.command(short_help="Run past slots again.")
@click.argument("name")
@click.option("--from", "first", type=DATETIME, required=True, help="The first moment of the span.")
@click.option("--to", "last", type=DATETIME, required=True, help="The last moment of the span.")
@click.option("--again", is_flag=True, help="Those that have completed too, such as after another model was taken.")
def backfill(name: str, first: datetime, last: datetime, again: bool) -> None:
    """Run the slots of NAME in a span of time that have not completed, each over what came between it and the last.

    The watermark stays: what the next night takes in does not change.
    """
    settings = Settings.load()
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        begun, kept = manual_runs.backfill(
            database, Catalogue.load(settings), name, first, last, now, include_completed=again
        )
        click.echo(f"{terminal.format_count(len(begun), 'slot')} of {name} will run")
        if kept:
            others = "are at it" if again else "have completed, or are at it"
            terminal.print_notice(f"{terminal.format_count(len(kept), 'slot')} in that span {others}: left alone")
        if begun:
            _warn_if_no_worker(database)


@schedule.command(short_help="Take a schedule away.")
@click.argument("name")
def delete(name: str) -> None:
    """Take NAME away with its history. Batches that run go on, results and the table that it wrote stay."""
    with common.open_database(Settings.load()) as database:
        registry.delete(database, name)
    click.echo(f"{name} is gone")


@schedule.command(short_help="List a schedule's runs.")
@click.argument("name")
@click.option("--limit", "-n", type=click.IntRange(min=1, max=10_000), default=20, show_default=True)
@common.json_option
def history(name: str, limit: int, as_json: bool) -> None:
    """List the runs of NAME, the latest first: what came of each, and how far results moved."""
    with common.open_database(Settings.load()) as database:
        view = registry.get(database, name)
        found = run_views.newest_runs(database, name, limit)
    if as_json:
        terminal.echo_list([run.as_dict() for run in found])
    elif found:
        click.echo(run_tables.format_runs(found, view.definition))
    else:
        terminal.print_notice(f"{name} has had no slot yet")


@schedule.command(short_help="Apply what batchmill.toml declares.")
def sync() -> None:
    """Make the declared schedules be those in [schedules.NAME] of batchmill.toml; those made by hand stay."""
    settings = Settings.load()
    catalogue, found = Catalogue.load(settings), config_file()
    folder = None if found is None else found.absolute().parent
    wanted = {
        name: validation.validate(name, fields, settings, catalogue, folder)
        for name, fields in settings.schedules.items()
    }
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        done = registry.sync(database, wanted, now)
        for what, name in done:
            coming = schedule_tables.format_next_times(registry.get(database, name), now, 1) if name in wanted else []
            click.echo("; next: ".join([f"{what} {name}", *coming]))
        if not done:
            terminal.print_notice(f"nothing to do: {terminal.format_count(len(wanted), 'declared schedule')}")
        _print_warnings(wanted.values(), settings)
        if wanted:
            _warn_if_no_worker(database)


@schedule.command(short_help="Do what is due, once.")
@click.option(
    "--now", "moment", type=DATETIME, help="As if it were this time, to rehearse; unset: the database's clock."
)
@click.option("--end-with-stdin", is_flag=True, hidden=True, help="End when standard input ends, for who starts us.")
@click.pass_context
def tick(ctx: click.Context, moment: datetime | None, end_with_stdin: bool) -> None:
    """Do once what schedules have due: decide slots, read sources, finish runs. Workers and the foreman start this.

    Any number of these may run at the same time, and be killed at any moment.
    """
    settings = Settings.load()
    log.configure(settings)
    failpoints.arm()
    if end_with_stdin:
        background.exit_with_parent()
    with common.open_database(settings) as database:
        done = ticking.run_once(
            database, settings, Catalogue.load(settings), moment or clock.clock_for(settings, database)()
        )
    if end_with_stdin:
        ctx.exit(0 if done else due_runs.EXIT_NOTHING_DUE)
    click.echo(schedule_tables.summarize_tick(done), err=True)


@schedule.command("metrics", short_help="Print metrics.")
def print_metrics() -> None:
    """Print how schedules stand in Prometheus' text format, for a textfile collector."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        click.echo(metrics.render(metrics.collect(database, clock.clock_for(settings, database)())), nl=False)


schedule.add_command(report)


def _tuple_to_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _echo_next_times(view: registry.ScheduleView, now: datetime) -> None:
    for line in schedule_tables.format_next_times(view, now, MAX_NEXT_TIMES):
        click.echo(f"  {line}")


def _print_warnings(definitions: Iterable[ScheduleDefinition], settings: Settings) -> None:
    """Say what they need that is not here; it may be where they run."""
    for doubt in sorted({doubt for one in definitions for doubt in validation.find_warnings(one, settings)}):
        terminal.print_notice(doubt)


def _warn_if_no_worker(database: Database) -> None:
    """Say so where nobody looks after schedules."""
    if not workers.schedules_are_served(database):
        terminal.print_notice(
            "no worker and no foreman runs now, so nothing will start: batchmill up, or batchmill foreman"
        )
