"""`batchmill retry` runs a batch's failed jobs again."""

import click

from models.db import Database
from models.errors import NothingToRetry, UsageError
from models.privacy import terminal
from models.settings import Settings
from models.states import JobOutcome
from producer.batches import views
from producer.batches.actions.retry import RetryResult, RetrySelection, retry_jobs
from producer.cli import common
from producer.cli.batches import wait
from producer.submission import submit
from producer.times import Deadline

FAILED = JobOutcome.FAILED.value
RETRYABLE_OUTCOMES = [outcome.value for outcome in JobOutcome if outcome is not JobOutcome.SUCCEEDED]


@click.command(short_help="Run a batch's failed jobs again.")
@click.argument("batch_id", metavar="ID")
@click.option("--code", "codes", multiple=True, metavar="CODE", help="Only jobs with this error code. May be repeated.")
@click.option(
    "--status",
    "outcomes",
    multiple=True,
    type=click.Choice(RETRYABLE_OUTCOMES),
    default=(FAILED,),
    show_default=True,
    help="Only jobs with this outcome. May be repeated.",
)
@click.option(
    "--position",
    "positions",
    type=int,
    multiple=True,
    metavar="N",
    help="Only the job at this position. May be repeated.",
)
@click.option(
    "--deadline", metavar="WHEN", help="A new deadline, such as 6h or 06:00; without it, a passed one is removed."
)
@click.option("--wait", "waits", is_flag=True, help="Wait for the end, and exit as `batchmill wait` does.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="With --wait: how long at most.")
@common.json_option
@click.pass_context
def retry(
    ctx: click.Context,
    batch_id: str,
    codes: tuple[str, ...],
    outcomes: tuple[str, ...],
    positions: tuple[int, ...],
    deadline: str | None,
    waits: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Try the failed jobs of the batch ID again, in the same batch; new results replace the old ones.

    The old results stay visible: batchmill attempts ID. Rows that were invalid when they were submitted are not tried
    again; put corrected ones in their places: batchmill submit --repair ID FILE. If nothing can be tried again, this
    says why and exits with 0.
    """
    if timeout is not None and not waits:
        raise UsageError("--timeout limits how long --wait waits; give --wait too")
    settings = Settings.load()
    selection = RetrySelection(tuple(map(JobOutcome, outcomes)), codes, positions)
    new_deadline = None if deadline is None else Deadline.parse_future(deadline)
    with common.open_database(settings) as database:
        try:
            result = retry_jobs(
                database, batch_id, selection, settings.slice_size, new_deadline, settings.unanswered_jobs_cap
            )
        except NothingToRetry as nothing:
            terminal.print_notice(str(nothing))
        else:
            terminal.print_notice(f"{terminal.format_count(result.jobs, 'job')} of {batch_id} will be tried again")
            if result.advice is not None:
                terminal.print_notice(result.advice)
            notify_workers(database, settings, result)
        ctx.exit(report_batch(database, batch_id, waits=waits, timeout=timeout, as_json=as_json))


def notify_workers(database: Database, settings: Settings, result: RetryResult) -> None:
    """Wake workers for a batch's requeued jobs, and print why they may start late."""
    warning = submit.notify_workers(settings, result.pipeline, result.slices)
    common.print_worker_warnings(database, settings, result.pipeline, warning)


def report_batch(database: Database, batch_id: str, *, waits: bool, timeout: float | None, as_json: bool) -> int:
    """Wait for a batch or print its JSON, as asked; returns the exit code."""
    if waits:
        return wait.follow_batch(database, batch_id, timeout, as_json=as_json)
    if as_json:
        terminal.echo_json(views.get_batch(database, batch_id).as_dict())
    return 0
