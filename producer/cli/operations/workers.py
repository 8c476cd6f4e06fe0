"""`batchmill workers` lists the worker processes."""

import click

from models.privacy import terminal
from models.settings import Settings
from producer.batches import blockers
from producer.batches import workers as fleet
from producer.batches.workers import WorkerView
from producer.cli import common

HEADER = ("PIPELINE", "HOST", "PID", "DEVICE", "STATE", "HEARTBEAT", "MODEL")


@click.command(short_help="List the worker processes.")
@common.json_option
def workers(as_json: bool) -> None:
    """List the worker processes and what they can't load; one without a heartbeat for three leases is `gone`."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        if as_json:
            terminal.echo_list(blockers.list_worker_objects(database, settings.lease_seconds))
            return
        worker_views = fleet.list_workers(database, settings.lease_seconds)
        load_failures = blockers.list_load_failures(database)
    if worker_views:
        click.echo(terminal.format_table(HEADER, [_table_row(worker) for worker in worker_views]))
        for failure in load_failures:
            terminal.print_notice(terminal.to_printable(failure.summary))
    else:
        terminal.print_notice("no worker runs; start some: batchmill up")


def _table_row(worker: WorkerView) -> list[object]:
    state = worker.state if worker.alive else "gone"
    heartbeat = f"{worker.heartbeat_seconds_ago:.0f} s ago"
    model = f"{worker.model}@{worker.revision}" if worker.revision else worker.model
    return [worker.pipeline, worker.host, str(worker.pid), worker.device, state, heartbeat, model]
