"""The webhook launcher checks in SQL whether events are due, and starts a process that sends them.

It is not the process of schedules: receivers may keep it waiting, and schedules must be on time.
"""

import time
from collections.abc import Callable

import structlog
from sqlalchemy import text

from models.db import Database
from models.lifecycle import due_runs
from models.processes.command_launcher import CommandLauncher
from models.settings import Settings

log = structlog.get_logger(__name__)


class WebhookLauncher:
    """Starts `batchmill webhooks` processes, one at a time; they end with this process."""

    def __init__(self, database: Database, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._launcher = CommandLauncher(settings, ("webhooks",), settings.schedule_check_seconds, monotonic)

    @property
    def has_work_due(self) -> str:
        """An SQL condition for due events, by the database's clock."""
        now = self._database.sql.now
        tables = (due_runs.DUE_EVENTS, due_runs.DUE_BATCH_EVENTS)
        return "(" + " OR ".join(f"EXISTS (SELECT 1 {table.format(now=now)})" for table in tables) + ")"

    def is_running(self) -> bool:
        """Whether a process was started whose end is not known yet."""
        return self._launcher.is_running()

    def run_once(self) -> str:
        """Start a process if events are due and none is running; returns the last one's failure, or ""."""
        if self._launcher.is_ready() and self._has_work():
            retry_seconds = self._launcher.start()
            if retry_seconds is not None:
                log.warning("webhook.start_failed", retry_seconds=retry_seconds)
        status = self._launcher.take_failure()
        return "" if status is None else f"the sending of webhooks ended with {status}"

    def _has_work(self) -> bool:
        with self._database.read() as connection:
            has_work = bool(connection.scalar(text(f"SELECT {self.has_work_due}")))
        if not has_work:
            self._launcher.forget_failures()
        return has_work
