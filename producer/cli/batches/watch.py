"""`batchmill watch` shows a batch while it runs."""

import time
from functools import partial

import click

from models.db import Database
from models.privacy import terminal
from models.settings import Settings
from producer.batches import polling, views
from producer.batches.progress.progress_tracker import ProgressTracker
from producer.batches.views import BatchView
from producer.cli import common
from producer.cli.batches import wait
from producer.cli.display.progress import LINE_INTERVAL_SECONDS


@click.command(short_help="Watch a batch while it runs.")
@click.argument("batch_id", metavar="ID")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="How long at most; then exit 124.")
@common.json_option
@click.pass_context
def watch(ctx: click.Context, batch_id: str, timeout: float | None, as_json: bool) -> None:
    """Watch the batch ID until it has ended: progress, rate, remaining time, workers, padding, failures by code.

    The view is live on a terminal; elsewhere it is a line every few seconds, or a JSON object with --json. Exits as
    `batchmill wait` does.
    """
    settings = Settings.load()
    with common.open_database(settings) as database:
        if as_json:
            tracker = ProgressTracker(database, batch_id, settings.lease_seconds, settings.home_path)
            ctx.exit(_print_progress(tracker, database, batch_id, timeout))
        ctx.exit(wait.follow_batch(database, batch_id, timeout, as_json=False, command="watch"))


def _print_progress(tracker: ProgressTracker, database: Database, batch_id: str, timeout: float | None) -> int:
    next_line_at = 0.0
    views.get_batch(database, batch_id)

    def print_if_due(batch: BatchView) -> None:
        nonlocal next_line_at
        now = time.monotonic()
        tracker.record(batch)
        if now >= next_line_at or batch.status.has_ended:
            next_line_at = now + LINE_INTERVAL_SECONDS
            terminal.echo_json(tracker.progress_for(batch).as_dict())

    return wait.exit_code(polling.wait_until_ended(partial(views.get_batch, database, batch_id), timeout, print_if_due))
