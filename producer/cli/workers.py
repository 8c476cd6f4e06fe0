"""`batchmill workers`: the worker processes."""

import click

from models import terminal
from models.settings import Settings
from producer import workers as fleet
from producer.cli import context
from producer.workers import WorkerView

HEADER = ("PIPELINE", "HOST", "PID", "DEVICE", "STATE", "HEARTBEAT", "MODEL")


@click.command(short_help="List the worker processes.")
@context.json_option
def workers(as_json: bool) -> None:
    """List the worker processes; one that was silent for three leases is `gone`."""
    settings = Settings.load()
    with context.opened(settings) as database:
        found = fleet.listed(database, settings.lease_seconds)
    if as_json:
        terminal.echo_list([worker.as_dict() for worker in found])
    elif found:
        click.echo(terminal.table(HEADER, [_line(worker) for worker in found]))
    else:
        terminal.notice("no worker runs; start some: batchmill up")


def _line(worker: WorkerView) -> list[object]:
    state = worker.state if worker.alive else "gone"
    heartbeat = f"{worker.heartbeat_seconds_ago:.0f} s ago"
    model = f"{worker.model}@{worker.revision}" if worker.revision else worker.model
    return [worker.pipeline, worker.host, str(worker.pid), worker.device, state, heartbeat, model]
