"""`batchmill workers`: the worker processes."""

from collections.abc import Sequence
from typing import Any

import click

from models.lifecycle.seats import worker_name_for
from models.privacy import terminal
from models.settings import Settings
from producer.batches import blockers
from producer.batches import workers as fleet
from producer.batches.blockers import LoadFailureView
from producer.batches.workers import WorkerView
from producer.cli import common

HEADER = ("PIPELINE", "HOST", "PID", "DEVICE", "STATE", "HEARTBEAT", "MODEL")


@click.command(short_help="List the worker processes.")
@common.json_option
def workers(as_json: bool) -> None:
    """List the worker processes, and what they can't load; one that was silent for three leases is `gone`."""
    settings = Settings.load()
    with common.open_database(settings) as database:
        found = fleet.list_workers(database, settings.lease_seconds)
        failed = blockers.list_load_failures(database)
    if as_json:
        terminal.echo_list([{**worker.as_dict(), "load_failures": _load_failures(worker, failed)} for worker in found])
    elif found:
        click.echo(terminal.format_table(HEADER, [_table_row(worker) for worker in found]))
        for failure in failed:
            terminal.print_notice(terminal.to_printable(failure.summary))
    else:
        terminal.print_notice("no worker runs; start some: batchmill up")


def _load_failures(worker: WorkerView, load_failures: Sequence[LoadFailureView]) -> list[dict[str, Any]]:
    return [failure.as_dict() for failure in load_failures if failure.seat == worker_name_for(worker.id)]


def _table_row(worker: WorkerView) -> list[object]:
    state = worker.state if worker.alive else "gone"
    heartbeat = f"{worker.heartbeat_seconds_ago:.0f} s ago"
    model = f"{worker.model}@{worker.revision}" if worker.revision else worker.model
    return [worker.pipeline, worker.host, str(worker.pid), worker.device, state, heartbeat, model]
