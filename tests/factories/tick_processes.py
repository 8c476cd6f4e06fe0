"""Processes that tick, which a test may kill at any time.

They are forked from a server that has imported all that a tick needs and has a single thread: a fork of the test's
process would copy the locks of its other threads, and a new Python would take a second to import the same.
"""

import multiprocessing
import time
from datetime import datetime
from multiprocessing.process import BaseProcess

from models import clock
from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.processes import failpoints
from models.settings import Settings
from producer.schedules.runs import tick

PAUSE_SECONDS = 0.02  # between two ticks of one that does not end

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def start_tick(settings: Settings, catalogue: Catalogue, now: datetime, failpoint: str) -> BaseProcess:
    """Start a process that runs everything due, with a failpoint."""
    return _start(_tick_once, settings, catalogue, now, failpoint)


def start_ticker(settings: Settings, catalogue: Catalogue, failpoint: str) -> BaseProcess:
    """Start a process that ticks almost without a pause by the clock of the settings, with a failpoint."""
    return _start(_tick_for_ever, settings, catalogue, failpoint)


def _start(target: object, *arguments: object) -> BaseProcess:
    process = _CONTEXT.Process(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
    process.start()
    return process


def _tick_once(settings: Settings, catalogue: Catalogue, now: datetime, failpoint: str) -> None:
    failpoints.arm(failpoint)
    tick.run_once(Database(settings.resolved_database_url), settings, catalogue, now)


def _tick_for_ever(settings: Settings, catalogue: Catalogue, failpoint: str) -> None:
    failpoints.arm(failpoint)
    database = Database(settings.resolved_database_url)
    now = clock.clock_for(settings, database)
    while True:
        tick.run_once(database, settings, catalogue, now())
        time.sleep(PAUSE_SECONDS)
