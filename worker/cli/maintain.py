"""The command `maintain`: maintenance tasks and schedules in a process without a model."""

import os
import signal
import socket
import threading
import uuid
from contextlib import closing
from pathlib import Path

import click

from models import log
from models.db import Database
from models.errors import DatabaseRefused
from models.postgresql import access
from models.postgresql.grants import Purpose
from models.privacy import terminal
from models.processes import failpoints
from models.settings import Settings
from worker.cli import run
from worker.leasing import database_refusal
from worker.maintenance import tasks
from worker.maintenance.loop import MaintenanceLoop


@click.command(short_help="Run maintenance tasks without a worker.")
@log.file_option
def maintain(log_file: Path | None) -> None:
    """Run maintenance tasks and schedules until Ctrl-C or SIGTERM.

    Maintenance reclaims expired leases, expires batches at their deadlines, ends abandoned submissions, resends lost
    wakeups and deletes old batches. Every worker does the same. Any number of these processes may run: a row in SQL
    lets one of them run each task.
    """
    settings = Settings.load(log_file=log_file)
    log.configure(settings, pid=os.getpid())
    failpoints.arm()
    with closing(access.open_with_privileges(settings, Purpose.WORKER)) as database:
        descriptor = log.open_file(settings.log_file_path)
        place = f"; log: {settings.log_file_path}" if descriptor else ""
        terminal.print_notice(f"running maintenance tasks, pid {os.getpid()}; Ctrl-C stops it{place}")
        with log.redirect_output(descriptor):
            log.configure(settings, pid=os.getpid())
            status = _run(settings, database)
    run.exit_after_log(settings, status)


def _run(settings: Settings, database: Database) -> int:
    """Run maintenance until SIGTERM or SIGINT, or until the tables are of another version; returns the exit status."""
    stopping = threading.Event()
    status = os.EX_OK

    def abort(error: DatabaseRefused) -> None:
        nonlocal status
        if not stopping.is_set():  # each refused task calls this
            status = database_refusal.log_cause(database, error).exit_code
            stopping.set()

    maintenance = MaintenanceLoop(
        database,
        tasks.default_tasks(database, settings),
        f"maintain-{socket.gethostname()}-{uuid.uuid4().hex[:8]}",
        reclaim_grace_seconds=settings.heartbeat_seconds,
        on_schema_mismatch=abort,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    maintenance.start()
    stopping.wait()
    maintenance.stop()
    return status
