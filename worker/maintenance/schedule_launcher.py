"""Schedules as a duty: see in SQL whether something is due, and have a process of its own do it.

A worker never reads a source: that would take turns with its device's thread, and the code for it is the producer's.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import structlog
from sqlalchemy import bindparam, text

from models import clock
from models.columns import UtcDateTime
from models.db import Database
from models.lifecycle import due_runs
from models.settings import Settings

log = structlog.get_logger(__name__)

MAX_PAUSE_SECONDS = 15.0  # a slot that comes meanwhile is still on time

SELECT_DUE_KIND = f"""
SELECT CASE
    WHEN EXISTS (SELECT 1 {due_runs.DUE_SCHEDULES}) THEN 'a slot'
    WHEN EXISTS (SELECT 1 {due_runs.DUE_RUNS} {due_runs.RUN_IS_NOT_HELD}) THEN 'a run'
    WHEN EXISTS (SELECT 1 {due_runs.DUE_EVENTS}) THEN 'an event'
END
"""


class ScheduleLauncher:
    """The duty of one process; it has at most one tick running, which ends with this process at the latest."""

    def __init__(self, database: Database, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock.clock_for(settings, database)
        self._monotonic = monotonic
        self._process: subprocess.Popen[bytes] | None = None
        self._pause_seconds = 0.0
        self._next_start_at = 0.0
        self._failure_message = ""

    def run_once(self) -> str:
        """Start a tick where something is due and none of ours is at it; raises Unreachable."""
        if self._is_busy() or self._monotonic() < self._next_start_at:
            return ""
        moment = self._clock()
        query = text(SELECT_DUE_KIND.format(now=self._database.sql.now)).bindparams(
            bindparam("moment", type_=UtcDateTime())
        )
        with self._database.read() as connection:
            due = connection.scalar(query, {"moment": moment})
        if due is None:
            self._pause_seconds = 0.0
        else:
            log.debug("schedules have something due", what=due)
            self._start(moment.isoformat())
        said, self._failure_message = self._failure_message, ""
        return said

    def _start(self, now: str) -> None:
        try:
            self._process = self._spawn(now)
        except OSError as error:  # no room for another process, or none for its pipe
            log.warning("no tick can be started, will try again", error=str(error))
            self._back_off()

    def _is_busy(self) -> bool:
        """Whether a tick is at it; after one that came to nothing the next has to wait, each time for longer.

        Such as while a pipeline is missing from this machine's catalogue: others may have it.
        """
        if self._process is None:
            return False
        if (status := self._process.poll()) is None:
            return True
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
        if status not in (0, due_runs.EXIT_NOTHING_DUE):
            self._failure_message = f"a tick ended with {status}"  # its own words are in this log already
        if status == 0:
            self._pause_seconds, self._next_start_at = 0.0, self._monotonic()
        else:
            self._back_off()
        return False

    def _back_off(self) -> None:
        shortest = self._settings.schedule_check_seconds
        self._pause_seconds = min(max(2 * self._pause_seconds, shortest), max(MAX_PAUSE_SECONDS, shortest))
        self._next_start_at = self._monotonic() + self._pause_seconds

    def _spawn(self, now: str) -> "subprocess.Popen[bytes]":
        settings = self._settings
        named = (
            ("DATABASE_URL", settings.database_url),
            ("REDIS_URL", settings.redis_url),
            ("HOME", settings.home_path),
        )
        ours = {f"BATCHMILL_{name}": str(value) for name, value in named if value is not None}
        rehearsed = () if settings.simulated_clock is None else ("--now", now)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "batchmill", "schedule", "tick", "--end-with-stdin", *rehearsed],
            stdin=subprocess.PIPE,  # its end tells the tick that we are gone, even by SIGKILL
            stdout=subprocess.DEVNULL,
            env={**os.environ, **ours},
            start_new_session=True,  # Ctrl-C is for us to hear of
        )
