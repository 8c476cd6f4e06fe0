"""The command `foreman`: the duties alone, for where no worker runs."""

import os
import signal
import socket
import threading
import uuid
from functools import partial

import click

from models import failpoints, log
from models.postgresql import privileges
from models.postgresql.grants import Purpose
from models.settings import Settings
from worker.leasing import database_refusal
from worker.leasing.leases import HeldLeases
from worker.maintenance import tasks
from worker.maintenance.loop import MaintenanceLoop


@click.command(short_help="Look after things where no worker runs.")
def foreman() -> None:
    """Do the duties until Ctrl-C or SIGTERM: expired leases, due retries, deadlines, abandoned submits, dry bells.

    Every worker does them as well, and any number of foremen may run: a row in SQL lets one of them through.
    """
    settings = Settings.load()
    log.configure(settings, pid=os.getpid())
    failpoints.arm()
    database = privileges.open_with_privileges(settings, Purpose.WORKER)
    who = f"foreman-{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    chores = MaintenanceLoop(
        database,
        tasks.default_tasks(database, settings),
        who,
        reclaim_grace_seconds=settings.heartbeat_seconds,
        on_schema_mismatch=partial(
            database_refusal.end_process, database, HeldLeases(), exit_status_for=lambda error: error.exit_code
        ),
    )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    chores.start()
    click.echo("the foreman looks after things; Ctrl-C ends it", err=True)
    stopping.wait()
    chores.stop()
    database.close()
