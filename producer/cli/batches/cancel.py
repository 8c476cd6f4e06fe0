"""`batchmill cancel` ends a batch now."""

import click

from models.privacy import terminal
from models.settings import Settings
from producer.batches.actions import cancel as cancelling
from producer.cli import common
from producer.live_view import words


@click.command(short_help="Cancel a batch.")
@click.argument("batch_id", metavar="ID")
@common.json_option
def cancel(batch_id: str, as_json: bool) -> None:
    """Cancel the batch ID: finished jobs keep their results, and all others are cancelled for good."""
    with common.open_database(Settings.load()) as database:
        batch = cancelling.cancel(database, batch_id)
    if as_json:
        terminal.echo_json(batch.as_dict())
    else:
        terminal.print_notice(words.summary(batch))
