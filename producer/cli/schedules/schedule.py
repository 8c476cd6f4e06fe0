"""The commands under `batchmill schedule`, which manage schedules."""

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
        """Parse ISO 8601; a time without a zone is in this machine's."""
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(str(value).strip()).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time such as 2026-11-24 or 2026-11-24T02:00+01:00", param, ctx)


DATETIME = _DateTimeParam()


@click.group(short_help="Manage schedules.")
def schedule() -> None:
    """Run a pipeline at set times over the rows that are new.

    Workers and `batchmill maintain` run schedules. Each scheduled time gets exactly one run, even if
    no worker was up at that time.
    """


@schedule.command(short_help="Add a schedule.")
@click.argument("name")
@definition_options
@click.option("--replace", is_flag=True, help="Change the schedule of this name; its history and watermark stay.")
def create(name: str, replace: bool, **given: Any) -> None:
    """Add a schedule called NAME. To define it in batchmill.toml instead, see batchmill schedule sync."""
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
    """List the schedules with their last and next runs; those that need attention are red."""
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
    """Show schedule NAME: its definition, its next five runs in its zone, its last runs and its events."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        view = registry.get(database, name)
        past = run_views.newest_runs(database, name, MAX_RUNS)
        newest_events = events.list_newest(database, name, MAX_EVENTS)
    stands = status.status_for(view, past[0] if past else None, now)
    if as_json:
        document = stands.as_dict() | {"next": schedule_tables.iso_next_times(view, now, MAX_NEXT_TIMES)}
        newest = [event.as_dict() for event in newest_events]
        runs_and_events = {"runs": [run.as_dict() for run in past], "events": newest}
        terminal.echo_json(document | runs_and_events)
        return
    click.echo(schedule_tables.format_schedule(stands, schedule_tables.format_next_times(view, now, MAX_NEXT_TIMES)))
    if past:
        click.echo("\n" + run_tables.format_runs(past, view.definition))
    if newest_events:
        click.echo("\n" + run_tables.format_events(newest_events, view.definition))
    if past:
        terminal.print_notice(f"\nmore on the last one: batchmill schedule report {name}")


@schedule.command(short_help="Suspend a schedule.")
@click.argument("name")
def suspend(name: str) -> None:
    """Start no runs of NAME until it is resumed; open runs continue."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        registry.suspend(database, name, clock.clock_for(settings, database)())
    click.echo(f"{name} rests; go on with: batchmill schedule resume {name}")


@schedule.command(short_help="Resume a schedule.")
@click.argument("name")
def resume(name: str) -> None:
    """Resume NAME from its next scheduled time; times while it was suspended are not caught up (see backfill)."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        registry.resume(database, name, now)
        click.echo(f"{name} goes on; next:")
        _echo_next_times(registry.get(database, name), now)


@schedule.command(short_help="Run a schedule now.")
@click.argument("name")
def trigger(name: str) -> None:
    """Run NAME now, besides its scheduled times, over all rows since the last completed run."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        batch_id = manual_runs.trigger(database, Catalogue.load(settings), name, clock.clock_for(settings, database)())
        click.echo(batch_id)
        terminal.print_notice(f"see how it goes: batchmill schedule history {name}, or batchmill watch {batch_id}")
        _warn_if_no_worker(database)


@schedule.command(short_help="Run past scheduled times again.")
@click.argument("name")
@click.option("--from", "first", type=DATETIME, required=True, help="The start of the span.")
@click.option("--to", "last", type=DATETIME, required=True, help="The end of the span, included.")
@click.option("--rerun-completed", is_flag=True, help="Repeat completed runs too, for example after a change of model.")
def backfill(name: str, first: datetime, last: datetime, rerun_completed: bool) -> None:
    """Run NAME for the scheduled times in a span that have no completed run, each over the rows since the time before.

    The watermark stays: the next run reads the same rows as without the backfill.
    """
    settings = Settings.load()
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        begun, kept = manual_runs.backfill(
            database, Catalogue.load(settings), name, first, last, now, include_completed=rerun_completed
        )
        click.echo(f"{terminal.format_count(len(begun), 'run')} of {name} will start")
        if kept:
            others = "are at it" if rerun_completed else "have completed, or are at it"
            terminal.print_notice(f"{terminal.format_count(len(kept), 'run')} in that span {others}: left alone")
        if begun:
            _warn_if_no_worker(database)


@schedule.command(short_help="Delete a schedule.")
@click.argument("name")
def delete(name: str) -> None:
    """Delete NAME with its history. Its open batches continue; results and its output table stay."""
    with common.open_database(Settings.load()) as database:
        registry.delete(database, name)
    click.echo(f"{name} is gone")


@schedule.command(short_help="List a schedule's runs.")
@click.argument("name")
@click.option("--limit", "-n", type=click.IntRange(min=1, max=10_000), default=20, show_default=True)
@common.json_option
def history(name: str, limit: int, as_json: bool) -> None:
    """List the runs of NAME, latest first, with their outcomes and the drift of their results."""
    with common.open_database(Settings.load()) as database:
        view = registry.get(database, name)
        found = run_views.newest_runs(database, name, limit)
    if as_json:
        terminal.echo_list([run.as_dict() for run in found])
    elif found:
        click.echo(run_tables.format_runs(found, view.definition))
    else:
        terminal.print_notice(f"{name} has had no run yet")


@schedule.command(short_help="Apply the schedules of batchmill.toml.")
def sync() -> None:
    """Create, change and delete schedules to match [schedules.NAME] in batchmill.toml; those made by hand stay."""
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
            terminal.print_notice(f"nothing to do: {terminal.format_count(len(wanted), 'schedule')} in batchmill.toml")
        _print_warnings(wanted.values(), settings)
        if wanted:
            _warn_if_no_worker(database)


@schedule.command(short_help="Do all due work once.")
@click.option("--now", type=DATETIME, help="Act as if it were this time, for tests; unset: the database's clock.")
@click.option(
    "--exit-with-parent",
    is_flag=True,
    hidden=True,
    help="Exit when standard input ends, which the parent process holds open.",
)
@click.pass_context
def tick(ctx: click.Context, now: datetime | None, exit_with_parent: bool) -> None:
    """Do once what schedules have due: plan runs, read sources, finish runs.

    Workers and `batchmill maintain` start this command.

    Any number of ticks may run at the same time, and may be killed at any time.
    """
    settings = Settings.load()
    log.configure(settings)
    failpoints.arm()
    if exit_with_parent:
        background.exit_with_parent()
    with common.open_database(settings) as database:
        done = ticking.run_once(
            database, settings, Catalogue.load(settings), now or clock.clock_for(settings, database)()
        )
    if exit_with_parent:
        ctx.exit(0 if done else due_runs.EXIT_NOTHING_DUE)
    click.echo(schedule_tables.summarize_tick(done), err=True)


@schedule.command("metrics", short_help="Print metrics.")
def print_metrics() -> None:
    """Print metrics of the schedules in Prometheus' text format, for a textfile collector."""
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
    """Print what the schedules need but this machine lacks; other machines may have it."""
    for doubt in sorted({doubt for one in definitions for doubt in validation.find_warnings(one, settings)}):
        terminal.print_notice(doubt)


def _warn_if_no_worker(database: Database) -> None:
    """Print a warning if no process runs schedules."""
    if not workers.schedules_are_served(database):
        terminal.print_notice(
            "no worker and no batchmill maintain runs now, so nothing will start: batchmill up, or batchmill maintain"
        )
