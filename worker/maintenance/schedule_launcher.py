"""The schedule launcher checks in SQL whether schedules have work due, and starts a process for it.

A worker never reads a source, because that would compete with its device thread, and the code belongs to the producer.
"""

import time
from collections.abc import Callable

import structlog
from sqlalchemy import bindparam, text

from models import clock
from models.db import Database
from models.dialects.columns import UtcDateTime
from models.lifecycle import due_runs
from models.processes.command_launcher import CommandLauncher
from models.settings import Settings

log = structlog.get_logger(__name__)

SELECT_DUE_KIND = f"""
SELECT CASE
    WHEN EXISTS (SELECT 1 {due_runs.DUE_SCHEDULES}) THEN 'a schedule'
    WHEN EXISTS (SELECT 1 {due_runs.DUE_RUNS} {due_runs.RUN_IS_NOT_HELD}) THEN 'a run'
END
"""


class ScheduleLauncher:
    """Starts `batchmill schedule tick` processes, one at a time; they end with this process."""

    def __init__(self, database: Database, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock.clock_for(settings, database)
        self._launcher = CommandLauncher(settings, ("schedule", "tick"), settings.schedule_check_seconds, monotonic)

    @property
    def has_work_due(self) -> str:
        """An SQL condition for due work by the database's clock; always true for a simulated clock."""
        if self._settings.simulated_clock is not None:
            return "true"
        now = self._database.sql.now
        return f"({SELECT_DUE_KIND.replace(':time', '{now}').format(now=now)}) IS NOT NULL"

    def is_running(self) -> bool:
        """Whether a tick was started whose end is not known yet."""
        return self._launcher.is_running()

    def is_unfinished(self) -> bool:
        """Whether a process runs, or its failure has still to be returned."""
        return self._launcher.is_unfinished()

    def can_run(self) -> bool:
        """Whether a process runs or can be started, so that others need not."""
        return self._launcher.can_run()

    def run_once(self) -> str:
        """Start a tick if work is due and none is running; returns the last tick's failure, or "".

        Raises Unreachable.
        """
        if not self._launcher.is_ready():
            return ""
        now = self._clock()
        query = text(SELECT_DUE_KIND.format(now=self._database.sql.now)).bindparams(
            bindparam("time", type_=UtcDateTime())
        )
        with self._database.read() as connection:
            due = connection.scalar(query, {"time": now})
        if due is None:
            self._launcher.forget_failures()
        else:
            log.debug("schedules.due", due=due)
            self._start(now.isoformat())
        status = self._launcher.take_failure()
        return "" if status is None else f"a tick ended with {status}"

    def _start(self, now: str) -> None:
        retry_seconds = self._launcher.start(*(() if self._settings.simulated_clock is None else ("--now", now)))
        if retry_seconds is not None:
            log.warning("tick.start_failed", error="the system starts no more processes", retry_seconds=retry_seconds)
