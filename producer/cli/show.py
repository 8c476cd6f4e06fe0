"""`batchmill show`: one batch."""

import click

from models import terminal
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
        there = workers.listed(database, settings.lease_seconds)
    if as_json:
        terminal.echo_json(batch.as_dict())
        return
    click.echo(render.batch_facts(batch))
    others = workers.other_revisions(there, batch)
    if not batch.status.ended and not any(worker.alive and worker.pipeline == batch.pipeline for worker in there):
        terminal.notice(render.unserved(batch.pipeline))
    elif others:
        terminal.notice(
            f"it waits for a worker with revision {batch.revision}, with which it began; "
            f"those that run have {', '.join(sorted(others))}: bring that model back, or submit the rest anew"
        )
    elif batch.counts.ended:
        terminal.notice(f"see the results: batchmill results {batch.id}")
