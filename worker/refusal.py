"""Refusal: the database answers, and will not do what this process needs. The process ends and says why."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import structlog

from models import schema
from models.db import Database
from models.errors import BatchmillError, DatabaseRefused, Unreachable
from worker import claims, exits
from worker.holdings import Holdings

log = structlog.get_logger(__name__)

OnRefusal = Callable[[DatabaseRefused], None]


def ignore(_error: DatabaseRefused) -> None:
    """Go on: the next try says the same."""


def end_process(database: Database, holdings: Holdings, error: DatabaseRefused) -> NoReturn:
    """Give the leases back, so that nobody takes this for a death over an input, and end."""
    why = schema.explained(database, error)
    log.error("the database refuses what this process needs; the process ends", code=why.code, error=str(why))
    try:
        with database.write() as connection:
            claims.release(connection, holdings.leases())
    except (DatabaseRefused, Unreachable) as refused:
        log.warning("could not give leases back; they run out by themselves", error=str(refused))
    leave(why)


def leave(error: BatchmillError) -> NoReturn:
    """End now, with the status that says why."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exits.status_of(error))
