"""The command `maintain`: maintenance tasks and schedules in a process without a model."""

import os
import signal
import socket
import threading
import uuid
from functools import partial

import click

from models import failpoints, log
from models.postgresql import access
from models.postgresql.grants import Purpose
from models.settings import Settings
from worker.leasing import database_refusal
from worker.leasing.leases import HeldLeases
from worker.maintenance import tasks
from worker.maintenance.loop import MaintenanceLoop


@click.command(short_help="Run maintenance tasks without a worker.")
def maintain() -> None:
    """Run maintenance tasks and schedules until Ctrl-C or SIGTERM.

    Maintenance reclaims expired leases, expires batches at their deadlines, ends abandoned submissions, resends lost
    wakeups and deletes old batches. Every worker does the same. Any number of these processes may run: a row in SQL
    lets one of them run each task.
    """
    settings = Settings.load()
    log.configure(settings, pid=os.getpid())
    failpoints.arm()
    database = access.open_with_privileges(settings, Purpose.WORKER)
    holder_id = f"maintain-{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    maintenance = MaintenanceLoop(
        database,
        tasks.default_tasks(database, settings),
        holder_id,
        reclaim_grace_seconds=settings.heartbeat_seconds,
        on_schema_mismatch=partial(
            database_refusal.end_process, database, HeldLeases(), exit_status_for=lambda error: error.exit_code
        ),
    )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    maintenance.start()
    click.echo("running maintenance tasks; Ctrl-C stops it", err=True)
    stopping.wait()
    maintenance.stop()
    database.close()
