"""`batchmill intake` reads uploaded files into their batches; servers and workers start it."""

import click

from models import log
from models.lifecycle import due_intakes
from models.pipelines.catalogue import Catalogue
from models.privacy import terminal
from models.processes import background, failpoints
from models.processes.command_launcher import EXIT_NOTHING_DUE
from models.settings import Settings
from producer.cli import common
from producer.uploads.intake.intake import Intake, take_in_waiting


@click.command(short_help="Read uploaded files into their batches.", hidden=True)
@click.option("--small", is_flag=True, help="Leave large files to another process.")
@click.option("--unserved", is_flag=True, help="Leave tenants one of whose files is being read to another process.")
@click.option(
    "--exit-with-parent", is_flag=True, help="End when standard input, which the starting process holds, closes."
)
@click.pass_context
def intake(ctx: click.Context, small: bool, unserved: bool, exit_with_parent: bool) -> None:
    """Read the files of all batches that wait for it, and exit.

    Any number of these may run at the same time, and may be killed at any time.
    """
    settings = Settings.load()
    log.configure(settings)
    failpoints.arm()
    if exit_with_parent:
        background.exit_with_parent()
    with common.open_database(settings) as database:
        max_bytes = due_intakes.SMALL_FILE_BYTES if small else None
        reader = Intake(database, settings, Catalogue.load(settings))
        count = take_in_waiting(reader, max_bytes, unserved_tenants=unserved)
    if exit_with_parent:
        ctx.exit(0 if count else EXIT_NOTHING_DUE)
    terminal.print_notice(f"read the files of {count:,} {'batch' if count == 1 else 'batches'}")
