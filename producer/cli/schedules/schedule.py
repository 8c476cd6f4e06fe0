"""The commands under `batchmill schedule`, which manage schedules."""

from typing import Any

import click

from models import clock, log
from models.pipelines.catalogue import Catalogue
from models.privacy import terminal
from models.processes import background, failpoints
from models.processes.command_launcher import EXIT_NOTHING_DUE
from models.settings import Settings
from producer.cli import common
from producer.cli.schedules import common as schedule_common
from producer.cli.schedules import run_tables, schedule_tables
from producer.cli.schedules.manual_runs import backfill, trigger
from producer.cli.schedules.options import definition_options
from producer.cli.schedules.report import report
from producer.cli.schedules.sync import sync
from producer.schedules import metrics, registry, reports, status, validation
from producer.schedules.reports import MAX_NEXT_TIMES
from producer.schedules.runs import run_views
from producer.schedules.runs import tick as ticking
from producer.times import parse_time_range


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
def create(name: str, replace: bool, **options: Any) -> None:
    """Add a schedule called NAME. To define it in batchmill.toml instead, see batchmill schedule sync."""
    fields = {field: _tuple_to_list(value) for field, value in options.items() if value not in (None, (), {})}
    settings = Settings.load()
    definition = validation.validate(name, fields, settings, Catalogue.load(settings))
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        view = registry.create(database, definition, now, replace=replace)
        click.echo(f"{name} runs {schedule_tables.format_times(definition)}; next:")
        schedule_common.echo_next_times(view, now)
        if view.watermark is not None and not replace:
            watermark = definition.format_time(view.watermark)
            terminal.print_notice(f"it takes up the history of the deleted {name}, and reads on from {watermark}")
        if definition.into is not None and definition.id is None:
            terminal.print_notice(f"{definition.into} finds rows again by the column custom_id, or id; or --id COLUMN")
        schedule_common.print_warnings(database, [definition], settings, now)
        schedule_common.warn_if_no_worker(database, settings)


@schedule.command(short_help="List schedules.")
@common.json_option
def ls(as_json: bool) -> None:
    """List the schedules with their last and next runs; those that need attention are red."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        views, unreadable = status.list_readable(database, now)
    for past_schedule in unreadable:
        terminal.print_notice(str(past_schedule.problem))
    if as_json:
        terminal.echo_list([view.as_dict() for view in views])
    elif views:
        click.echo(schedule_tables.format_schedules(views))
    elif not unreadable:
        terminal.print_notice("there are no schedules yet; add one: batchmill schedule create NAME --cron …")


@schedule.command(short_help="Show one schedule.")
@click.argument("name")
@common.json_option
def show(name: str, as_json: bool) -> None:
    """Show schedule NAME: its definition, its next five runs in its zone, its last runs and its events."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        schedule_report = reports.report_schedule(database, name, now)
    if as_json:
        terminal.echo_json(schedule_report.as_dict())
        return
    view, runs, newest_events = schedule_report.status.view, schedule_report.runs, schedule_report.events
    next_lines = schedule_tables.format_next_times(view, now, MAX_NEXT_TIMES)
    click.echo(schedule_tables.format_schedule(schedule_report.status, next_lines))
    if runs:
        click.echo("\n" + run_tables.format_runs(runs, view.definition))
    if newest_events:
        click.echo("\n" + run_tables.format_events(newest_events, view.definition))
    if runs:
        terminal.print_notice(f"\nmore on the last run: batchmill schedule report {name}")


@schedule.command(short_help="Suspend a schedule.")
@click.argument("name")
def suspend(name: str) -> None:
    """Start no runs of NAME until it is resumed; open runs continue."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        registry.suspend(database, name, clock.clock_for(settings, database)())
    click.echo(f"{name} is suspended; to continue: batchmill schedule resume {name}")


@schedule.command(short_help="Resume a schedule.")
@click.argument("name")
def resume(name: str) -> None:
    """Resume NAME from its next scheduled time; times while it was suspended are not caught up (see backfill)."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        registry.resume(database, name, now)
        click.echo(f"{name} continues; next:")
        schedule_common.echo_next_times(registry.get(database, name), now)


@schedule.command(short_help="Delete a schedule.")
@click.argument("name")
@click.option("--purge", is_flag=True, help="Also delete its watermark and history, so that it can start over.")
def delete(name: str, purge: bool) -> None:
    """Delete NAME. Its open batches continue; results and its output table stay.

    Its watermark and history are kept for a schedule that is created again under its name, until `batchmill prune`.
    """
    settings = Settings.load()
    with common.open_database(settings) as database:
        registry.delete(database, name, clock.clock_for(settings, database)(), purge=purge)
    click.echo(
        f"deleted {name}, with its history" if purge else f"deleted {name}; created again, it takes up its history"
    )


@schedule.command(short_help="List a schedule's runs.")
@click.argument("name")
@common.limit_option("runs", most=10_000, default=20)
@common.json_option
def history(name: str, limit: int, as_json: bool) -> None:
    """List the runs of NAME, latest first, with their outcomes and the drift of their results."""
    with common.open_database(Settings.load()) as database:
        view = registry.get(database, name)
        runs = run_views.newest_runs(database, name, limit)
    if as_json:
        terminal.echo_list([run.as_dict() for run in runs])
    elif runs:
        click.echo(run_tables.format_runs(runs, view.definition))
    else:
        terminal.print_notice(f"{name} has had no run yet")


@schedule.command(short_help="Do all due work once.")
@click.option(
    "--now", "now_text", metavar="TIME", help="Act as if it were this time, for tests; unset: the database's clock."
)
@click.option(
    "--exit-with-parent",
    is_flag=True,
    hidden=True,
    help="Exit when standard input ends, which the parent process holds open.",
)
@click.pass_context
def tick(ctx: click.Context, now_text: str | None, exit_with_parent: bool) -> None:
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
        now = clock.clock_for(settings, database)() if now_text is None else parse_time_range(now_text).start
        result = ticking.run_once(database, settings, Catalogue.load(settings), now)
    if exit_with_parent:
        ctx.exit(0 if result else EXIT_NOTHING_DUE)
    terminal.print_notice(schedule_tables.summarize_tick(result))
    if now_text is not None and not result:
        terminal.print_notice(
            "times before a schedule was created are never due; to go back, set BATCHMILL_SIMULATED_CLOCK before that"
        )


@schedule.command("metrics", short_help="Print metrics.")
def print_metrics() -> None:
    """Print metrics of the schedules in Prometheus' text format, for a textfile collector."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        click.echo(metrics.render(metrics.collect(database, clock.clock_for(settings, database)())), nl=False)


for command in (report, sync, trigger, backfill):
    schedule.add_command(command)


def _tuple_to_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
