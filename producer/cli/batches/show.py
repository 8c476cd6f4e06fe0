"""`batchmill show` shows one batch."""

import click

from models.privacy import terminal
from models.settings import Settings
from producer.batches import blockers, views
from producer.batches.actions import followers
from producer.cli import common
from producer.cli.display import batch_tables
from producer.webhooks import batch_deliveries


@click.command(short_help="Show one batch.")
@click.argument("batch_id", metavar="ID")
@common.json_option
def show(batch_id: str, as_json: bool) -> None:
    """Show the batch ID: its progress, model and rate, and the reason if no worker processes it."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        batch = views.get_batch(database, batch_id)
        follower_ids = followers.list_followers(database, batch_id)
        deliveries = [] if batch.webhook_url is None else batch_deliveries.list_deliveries(database, batch_id)
        waiting_for = blockers.find_blockers(database, batch, settings.lease_seconds, settings.home_path)
    if as_json:
        reasons = {} if batch.status.has_ended else {"waiting_for": [blocker.as_dict() for blocker in waiting_for]}
        events = {"webhook_events": [delivery.as_dict() for delivery in deliveries]}
        terminal.echo_json({**batch.as_dict(), "follower_batch_ids": follower_ids, **events, **reasons})
        return
    click.echo(batch_tables.batch_details(batch, follower_ids, deliveries))
    for blocker in waiting_for:
        terminal.print_notice(f"waiting: {terminal.to_printable(blocker.message)}")
    if batch.counts.ended:
        terminal.print_notice(f"see the results: batchmill results {batch.id}")
