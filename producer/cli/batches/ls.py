"""`batchmill ls` lists batches."""

import click

from models.privacy import terminal
from models.settings import Settings
from models.states import BatchStatus
from producer.batches import views
from producer.cli import common
from producer.cli.display import batch_tables

HEADER = ("BATCH", "STATUS", "PIPELINE", "DONE", "FAILED", "SUBMITTED", "NAME")


@click.command(short_help="List batches, the newest first.")
@click.option("--limit", "-n", type=click.IntRange(min=1, max=10_000), default=20, show_default=True)
@click.option(
    "--status", type=click.Choice([status.value for status in BatchStatus]), help="Only batches with this status."
)
@common.json_option
def ls(limit: int, status: str | None, as_json: bool) -> None:
    """List batches, the newest first."""
    with common.open_database(Settings.load()) as database:
        batches = views.list_batches(database, limit, status=status)
    if as_json:
        terminal.echo_list([batch.as_dict() for batch in batches])
    elif batches:
        click.echo(terminal.format_table(HEADER, [batch_tables.batch_row(batch) for batch in batches]))
    else:
        terminal.print_notice("there are no batches yet; submit one: batchmill submit FILE --pipeline NAME")
