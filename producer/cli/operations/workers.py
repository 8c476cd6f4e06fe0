"""`batchmill workers` lists the worker processes and the HTTP servers."""

import click

from models.privacy import terminal
from models.settings import Settings
from producer.activity import utilisation, worker_objects
from producer.activity.utilisation import WorkerActivity
from producer.batches import blockers
from producer.cli import common
from producer.health import servers
from producer.health.servers import ServerView
from producer.workers import workers as fleet
from producer.workers.workers import WorkerView

SERVER_HEADER = ("SERVER", "HOST", "PID", "STATE", "HEARTBEAT")
HEADER = ("PIPELINE", "HOST", "PID", "DEVICE", "STATE", "BUSY", "JOBS/S", "HEARTBEAT", "MODEL")


@click.command(short_help="List the worker processes.")
@common.json_option
def workers(as_json: bool) -> None:
    """List the worker processes, what they can't load, and the HTTP servers.

    A worker without a heartbeat for three leases is `gone`, a server after one. BUSY is the share of the last five
    minutes in which its device computed, and JOBS/S its pace in the minutes of the last hour in which it worked.
    """
    settings = Settings.load()
    with common.open_database(settings) as database:
        if as_json:
            terminal.echo_list(worker_objects.list_worker_objects(database, settings.lease_seconds))
            return
        worker_views = fleet.list_workers(database, settings.lease_seconds)
        activities = utilisation.read_worker_activity(database, worker_views)
        load_failures = blockers.list_load_failures(database)
        server_views = servers.list_servers(database, settings.lease_seconds)
    if worker_views:
        click.echo(
            terminal.format_table(HEADER, [_table_row(worker, activities[worker.id]) for worker in worker_views])
        )
        for failure in load_failures:
            terminal.print_notice(terminal.to_printable(failure.summary))
    else:
        terminal.print_notice("no worker runs; start some: batchmill up")
    if server_views:
        click.echo("\n" * bool(worker_views), nl=False)
        click.echo(terminal.format_table(SERVER_HEADER, [_server_row(server) for server in server_views]))


def _server_row(server: ServerView) -> list[object]:
    heartbeat = f"{server.heartbeat_seconds_ago:.0f} s ago"
    return [server.address, server.host, str(server.pid), "running" if server.alive else "gone", heartbeat]


def _table_row(worker: WorkerView, activity: WorkerActivity) -> list[object]:
    state = worker.state if worker.alive else "gone"
    heartbeat = f"{worker.heartbeat_seconds_ago:.0f} s ago"
    model = f"{worker.model}@{worker.revision}" if worker.revision else worker.model
    busy = f"{activity.utilisation:.0%}"
    pace = "-" if activity.jobs_per_second is None else f"{activity.jobs_per_second:,.1f}"
    return [worker.pipeline, worker.host, str(worker.pid), worker.device, state, busy, pace, heartbeat, model]
