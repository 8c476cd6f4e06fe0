"""Schedules as a duty: see in SQL whether something is due, and have a process of its own do it.

A worker never reads a source: that would take turns with its device's thread, and the code for it is the producer's.
"""

import os
import subprocess
import sys

import structlog
from sqlalchemy import bindparam, text

from models import agenda, clock
from models.columns import Moment
from models.db import Database
from models.settings import Settings

log = structlog.get_logger(__name__)

DUE = f"""
SELECT CASE
    WHEN EXISTS (SELECT 1 {agenda.SLOTS}) THEN 'a slot'
    WHEN EXISTS (SELECT 1 {agenda.RUNS} {agenda.NOT_HELD}) THEN 'a run'
    WHEN EXISTS (SELECT 1 {agenda.EVENTS}) THEN 'an event'
END
"""


class Scheduling:
    """The duty of one process; it has at most one tick running."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock.of(settings, database)
        self._tick: subprocess.Popen[bytes] | None = None

    def run_once(self) -> str:
        """Start a tick where something is due and none of ours is at it; raises Unreachable."""
        if self._tick is not None and self._tick.poll() is None:
            return ""
        moment = self._clock()
        query = text(DUE.format(now=self._database.sql.now)).bindparams(bindparam("moment", type_=Moment()))
        with self._database.read() as connection:
            due = connection.scalar(query, {"moment": moment})
        if due is not None:
            log.debug("schedules have something due", what=due)
            self._tick = self._started(moment.isoformat())
        return ""

    def _started(self, moment: str) -> "subprocess.Popen[bytes]":
        settings = self._settings
        named = (
            ("DATABASE_URL", settings.database_url),
            ("REDIS_URL", settings.redis_url),
            ("HOME", settings.home_path),
        )
        ours = {f"BATCHMILL_{name}": str(value) for name, value in named if value is not None}
        rehearsed = () if settings.clock is None else ("--now", moment)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "batchmill", "schedule", "tick", *rehearsed],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ, **ours},
        )  # fmt: skip
