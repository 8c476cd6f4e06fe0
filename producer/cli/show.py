"""`batchmill show`: one batch."""

import click

from models.settings import Settings
from producer import batches, workers
from producer.cli import context, render


@click.command(short_help="Show one batch.")
@click.argument("batch_id", metavar="ID")
@context.json_option
def show(batch_id: str, as_json: bool) -> None:
    """Show how the batch ID stands, what made its results, and how fast."""
    settings = Settings.load()
    with context.opened(settings) as database:
        batch = batches.get(database, batch_id)
        idle = not batch.status.ended and not workers.alive(database, batch.pipeline, settings.lease_seconds)
    if as_json:
        render.echo_json(batch.as_dict())
        return
    click.echo(render.batch_facts(batch))
    if idle:
        render.notice(render.unserved(batch.pipeline))
    elif batch.counts.ended:
        render.notice(f"see the results: batchmill results {batch.id}")
