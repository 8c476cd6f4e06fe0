"""The schedule launcher checks in SQL whether schedules or webhooks have work due, and starts a process for it.

A worker never reads a source, because that would compete with its device thread, and the code belongs to the producer.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import structlog
from sqlalchemy import bindparam, text

from models import clock
from models.backoff import max_backoff_seconds
from models.db import Database
from models.dialects.columns import UtcDateTime
from models.lifecycle import due_runs
from models.settings import Settings

log = structlog.get_logger(__name__)

MAX_PAUSE_SECONDS = 15.0  # a run that becomes due meanwhile is still on time

SELECT_DUE_KIND = f"""
SELECT CASE
    WHEN EXISTS (SELECT 1 {due_runs.DUE_SCHEDULES}) THEN 'a schedule'
    WHEN EXISTS (SELECT 1 {due_runs.DUE_RUNS} {due_runs.RUN_IS_NOT_HELD}) THEN 'a run'
    WHEN EXISTS (SELECT 1 {due_runs.DUE_EVENTS}) THEN 'an event'
    WHEN EXISTS (SELECT 1 {due_runs.DUE_BATCH_EVENTS}) THEN 'the event of a batch'
END
"""


class ScheduleLauncher:
    """Starts `batchmill schedule tick` processes, one at a time; they end with this process."""

    def __init__(self, database: Database, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock.clock_for(settings, database)
        self._monotonic = monotonic
        self._process: subprocess.Popen[bytes] | None = None
        self._failed_starts = 0
        self._next_start_at = 0.0
        self._failure_message = ""

    @property
    def has_work_due(self) -> str:
        """An SQL condition for due work by the database's clock; always true for a simulated clock."""
        if self._settings.simulated_clock is not None:
            return "true"
        now = self._database.sql.now
        return f"({SELECT_DUE_KIND.replace(':time', '{now}').format(now=now)}) IS NOT NULL"

    def is_running(self) -> bool:
        """Whether a tick was started whose end is not known yet."""
        return self._process is not None

    def run_once(self) -> str:
        """Start a tick if work is due and none is running; returns the last tick's failure, or "".

        Raises Unreachable.
        """
        if self._is_busy() or self._monotonic() < self._next_start_at:
            return ""
        now = self._clock()
        query = text(SELECT_DUE_KIND.format(now=self._database.sql.now)).bindparams(
            bindparam("time", type_=UtcDateTime())
        )
        with self._database.read() as connection:
            due = connection.scalar(query, {"time": now})
        if due is None:
            self._failed_starts = 0
        else:
            log.debug("schedules.due", due=due)
            self._start(now.isoformat())
        message, self._failure_message = self._failure_message, ""
        return message

    def _start(self, now: str) -> None:
        try:
            self._process = self._spawn(now)
        except OSError as error:  # too many processes or open files
            seconds = self._back_off()
            log.warning("tick.start_failed", error=str(error), retry_seconds=seconds)

    def _is_busy(self) -> bool:
        """Whether a tick is running; after one without success the next is delayed, with backoff.

        For example, a pipeline is missing from this machine's catalogue, and other machines may have it.
        """
        if self._process is None:
            return False
        if (status := self._process.poll()) is None:
            return True
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
        if status not in (0, due_runs.EXIT_NOTHING_DUE):
            self._failure_message = f"a tick ended with {status}"  # its own messages are in this log already
        if status == 0:
            self._failed_starts, self._next_start_at = 0, self._monotonic()
        else:
            self._back_off()
        return False

    def _back_off(self) -> float:
        self._failed_starts += 1
        base_seconds = self._settings.schedule_check_seconds
        pause = max_backoff_seconds(self._failed_starts, base_seconds, max(MAX_PAUSE_SECONDS, base_seconds))
        self._next_start_at = self._monotonic() + pause
        return pause

    def _spawn(self, now: str) -> "subprocess.Popen[bytes]":
        settings = self._settings
        values = (
            ("DATABASE_URL", settings.database_url),
            ("REDIS_URL", settings.redis_url),
            ("HOME", settings.home_path),
        )
        variables = {f"BATCHMILL_{name}": str(value) for name, value in values if value is not None}
        now_option = () if settings.simulated_clock is None else ("--now", now)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "batchmill", "schedule", "tick", "--exit-with-parent", *now_option],
            stdin=subprocess.PIPE,  # it closes when this process ends, even by SIGKILL, and the tick then ends too
            stdout=subprocess.DEVNULL,
            env={**os.environ, **variables},
            start_new_session=True,  # Ctrl-C must reach only this process
        )
