"""`batchmill webhooks` sends the events that are due to their webhooks; workers start it."""

import click

from models import log
from models.privacy import terminal
from models.processes import background, failpoints
from models.processes.command_launcher import EXIT_NOTHING_DUE
from models.settings import Settings
from producer.cli import common
from producer.schedules.alerts.event_outbox import SCHEDULE_EVENTS
from producer.webhooks import delivery
from producer.webhooks.batch_outbox import BATCH_EVENTS


@click.command(short_help="Send due events to their webhooks.", hidden=True)
@click.option(
    "--exit-with-parent", is_flag=True, help="End when standard input, which the starting process holds, closes."
)
@click.pass_context
def webhooks(ctx: click.Context, exit_with_parent: bool) -> None:
    """Send all events that are due, for at most half a minute, and exit.

    Any number of these may run at the same time, and may be killed at any time.
    """
    settings = Settings.load()
    log.configure(settings)
    failpoints.arm()
    if exit_with_parent:
        background.exit_with_parent()
    with common.open_database(settings) as database:
        sent = delivery.send_due(database, settings, (SCHEDULE_EVENTS, BATCH_EVENTS))
    if exit_with_parent:
        ctx.exit(0 if sent.attempts else EXIT_NOTHING_DUE)
    terminal.print_notice(f"delivered {terminal.format_count(sent.delivered, 'event')}")
