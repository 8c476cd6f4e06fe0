"""`batchmill wait` waits until a batch has ended."""

from functools import partial

import click

from models.db import Database
from models.privacy import terminal
from models.settings import Settings
from models.states import BatchStatus
from producer.batches import polling, views
from producer.batches.progress.progress_tracker import ProgressTracker
from producer.batches.views import BatchView
from producer.cli import common
from producer.cli.display import progress
from producer.live_view import words

EXIT_COMPLETED, EXIT_FAILED, EXIT_FAILED_JOBS = 0, 1, 3


@click.command(short_help="Wait until a batch has ended.")
@click.argument("batch_id", metavar="ID")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="How long at most; then exit 124.")
@common.json_option
@click.pass_context
def wait(ctx: click.Context, batch_id: str, timeout: float | None, as_json: bool) -> None:
    """Wait until the batch ID has ended.

    Exits 0 when all its jobs succeeded, 3 when it completed with failed jobs, and 1 when it failed, expired or was
    cancelled.
    """
    with common.open_database(Settings.load()) as database:
        ctx.exit(follow_batch(database, batch_id, timeout, as_json=as_json))


def follow_batch(
    database: Database, batch_id: str, timeout: float | None, *, as_json: bool, command: str = "wait"
) -> int:
    """Show a batch until it has ended, and return the exit code; `command` is named in the notice on Ctrl-C."""
    views.get_batch(database, batch_id)  # raises NotFound before a bar is shown
    tracker = ProgressTracker(database, batch_id, home=Settings.load().home_path)
    try:
        with progress.show_batch(tracker) as update:
            batch = polling.wait_until_ended(partial(views.get_batch, database, batch_id), timeout, update)
    except KeyboardInterrupt:
        terminal.print_notice(f"\n{batch_id} continues; return to it: batchmill {command} {batch_id}")
        raise
    terminal.print_notice(words.summary(batch))
    if as_json:
        terminal.echo_json(batch.as_dict())
    return exit_code(batch)


def exit_code(batch: BatchView) -> int:
    """Return the exit code for a batch that has ended."""
    if batch.status is not BatchStatus.COMPLETED:
        return EXIT_FAILED
    return EXIT_FAILED_JOBS if batch.counts.failed else EXIT_COMPLETED
