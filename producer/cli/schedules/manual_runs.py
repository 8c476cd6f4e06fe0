"""The commands that start runs by hand: `batchmill schedule trigger` and `batchmill schedule backfill`."""

from collections.abc import Sequence

import click

from models import clock
from models.db import Database
from models.errors import UsageError, WaitTimeout
from models.pipelines.catalogue import Catalogue
from models.privacy import terminal
from models.settings import Settings
from models.states import RunState
from producer.cli import common as cli_common
from producer.cli.batches.wait import EXIT_COMPLETED, EXIT_FAILED, EXIT_FAILED_JOBS
from producer.cli.schedules import common, run_tables
from producer.schedules import registry
from producer.schedules.runs import manual_runs
from producer.schedules.runs.manual_runs import SpanText, StartedRun
from producer.schedules.runs.run_views import RunView

RUNS_HEADER = ("SCHEDULED", "BATCH")

wait_option = click.option("--wait", "waits", is_flag=True, help="Wait until the runs have ended.")
timeout_option = click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="With --wait: how long at most; then exit 124."
)


@click.command(short_help="Run a schedule now.")
@click.argument("name")
@wait_option
@timeout_option
@cli_common.json_option
@click.pass_context
def trigger(ctx: click.Context, name: str, waits: bool, timeout: float | None, as_json: bool) -> None:
    """Run NAME now, besides its scheduled times, over all rows since the last completed run.

    Prints the batch's id. With --wait, exits 0 when the run completed, 3 when it has failed rows, and 1 when it failed.
    """
    _check_timeout(timeout, waits=waits)
    settings = Settings.load()
    with cli_common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        run = manual_runs.trigger(database, Catalogue.load(settings), name, now)
        if not as_json:
            click.echo(run.batch_id)
            if not waits:
                advice = f"batchmill schedule history {name}, or batchmill watch {run.batch_id}"
                terminal.print_notice(f"see its progress: {advice}")
        common.warn_if_no_worker(database, settings)
        ctx.exit(_report_runs(database, name, [run], timeout, waits=waits, as_json=as_json))


@click.command(short_help="Run past scheduled times again.")
@click.argument("name")
@click.option("--time", "time_text", metavar="TIME", help="One scheduled time, or its day: 2026-11-24 02:00.")
@click.option("--from", "first", metavar="TIME", help="The start of a span: a day, or a time.")
@click.option("--to", "last", metavar="TIME", help="The end of the span, included; unset: now.")
@click.option("--rerun-completed", is_flag=True, help="Repeat completed runs too, for example after a change of model.")
@wait_option
@timeout_option
@cli_common.json_option
@click.pass_context
def backfill(
    ctx: click.Context,
    name: str,
    time_text: str | None,
    first: str | None,
    last: str | None,
    rerun_completed: bool,
    waits: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Run NAME for past scheduled times that have no completed run, each over the rows since the time before.

    Times without a zone are in the schedule's; a date is the whole day. Prints each run with its batch's id.
    The next run does not read again what was read without a gap.
    """
    _check_timeout(timeout, waits=waits)
    settings = Settings.load()
    with cli_common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        definition = registry.get(database, name).definition
        span = manual_runs.parse_span(database, definition, SpanText(time_text, first, last), now)
        result = manual_runs.backfill(
            database, Catalogue.load(settings), name, span, now, include_completed=rerun_completed
        )
        if result.started and not as_json:
            rows = [(definition.format_time(run.scheduled_at), run.batch_id) for run in result.started]
            click.echo(terminal.format_table(RUNS_HEADER, rows))
        terminal.print_notice(f"{terminal.format_count(len(result.started), 'run')} of {name} will start")
        if result.skipped:
            reason = "are in progress" if rerun_completed else "have completed, or are in progress"
            count = terminal.format_count(len(result.skipped), "run")
            terminal.print_notice(f"{count} in that span {reason}: left alone")
        if result.started:
            common.warn_if_no_worker(database, settings)
        ctx.exit(_report_runs(database, name, result.started, timeout, waits=waits, as_json=as_json))


def _check_timeout(timeout: float | None, *, waits: bool) -> None:
    if timeout is not None and not waits:
        raise UsageError("--timeout limits how long --wait waits; add --wait")


def _report_runs(
    database: Database, name: str, started: Sequence[StartedRun], timeout: float | None, *, waits: bool, as_json: bool
) -> int:
    """Wait for the runs if asked to, print them, and return the exit code."""
    times = [run.scheduled_at for run in started]
    try:
        runs = manual_runs.wait_for_runs(database, name, times, timeout) if waits else None
    except WaitTimeout:
        if as_json:
            _echo_json(manual_runs.find_runs(database, name, times))
        raise
    except KeyboardInterrupt:
        terminal.print_notice(f"\n{name} continues; see its runs: batchmill schedule history {name}")
        raise
    if as_json:
        _echo_json(manual_runs.find_runs(database, name, times) if runs is None else runs)
    elif runs:
        terminal.print_notice(run_tables.format_runs(runs, registry.get(database, name).definition))
    if not runs:
        return EXIT_COMPLETED
    if any(run.state is not RunState.COMPLETED for run in runs):
        return EXIT_FAILED
    has_failures = any((run.summary or {}).get("failed") for run in runs)
    return EXIT_FAILED_JOBS if has_failures else EXIT_COMPLETED


def _echo_json(runs: Sequence[RunView]) -> None:
    terminal.echo_list([run.as_dict() for run in runs])
