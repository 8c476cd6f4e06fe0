"""`batchmill workers`: the worker processes."""

from collections.abc import Sequence
from typing import Any

import click

from models.lifecycle.seats import seat_of
from models.privacy import terminal
from models.settings import Settings
from producer.batches import blockers
from producer.batches import workers as fleet
from producer.batches.blockers import Failure
from producer.batches.workers import WorkerView
from producer.cli import common

HEADER = ("PIPELINE", "HOST", "PID", "DEVICE", "STATE", "HEARTBEAT", "MODEL")


@click.command(short_help="List the worker processes.")
@common.json_option
def workers(as_json: bool) -> None:
    """List the worker processes, and what they can't load; one that was silent for three leases is `gone`."""
    settings = Settings.load()
    with common.opened(settings) as database:
        found = fleet.listed(database, settings.lease_seconds)
        failed = blockers.failures(database)
    if as_json:
        terminal.echo_list([{**worker.as_dict(), "load_failures": _failures(worker, failed)} for worker in found])
    elif found:
        click.echo(terminal.table(HEADER, [_line(worker) for worker in found]))
        for failure in failed:
            terminal.notice(terminal.printable(failure.sentence))
    else:
        terminal.notice("no worker runs; start some: batchmill up")


def _failures(worker: WorkerView, failed: Sequence[Failure]) -> list[dict[str, Any]]:
    return [failure.as_dict() for failure in failed if failure.seat == seat_of(worker.id)]


def _line(worker: WorkerView) -> list[object]:
    state = worker.state if worker.alive else "gone"
    heartbeat = f"{worker.heartbeat_seconds_ago:.0f} s ago"
    model = f"{worker.model}@{worker.revision}" if worker.revision else worker.model
    return [worker.pipeline, worker.host, str(worker.pid), worker.device, state, heartbeat, model]
