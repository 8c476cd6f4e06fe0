"""`batchmill delete` deletes a batch for good."""

import click

from models.privacy import terminal
from models.settings import Settings
from producer.batches.actions import delete as deleting
from producer.cli import common


@click.command(short_help="Delete a batch with its jobs and results.")
@click.argument("batch_id", metavar="ID")
@click.option("--cancel", is_flag=True, help="Cancel the batch first if it has not ended.")
@common.json_option
def delete(batch_id: str, cancel: bool, as_json: bool) -> None:
    """Delete the batch ID with its jobs and results, for good; tables that --to-sql wrote stay.

    A batch that has not ended is refused, unless --cancel is given.
    """
    with common.open_database(Settings.load()) as database:
        deleting.delete(database, batch_id, cancel=cancel)
    if as_json:
        terminal.echo_json({"id": batch_id, "object": "batch.deleted", "deleted": True})
    else:
        terminal.print_notice(f"{batch_id} is deleted")
