"""Refusal: the database answers, and will not do what this process needs. The process ends and says why."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import structlog

from models import schema
from models.db import Database
from models.errors import BatchmillError, DatabaseRefused, Unreachable
from worker import exit_status
from worker.leasing import claims
from worker.leasing.leases import Holdings

log = structlog.get_logger(__name__)

OnRefusal = Callable[[DatabaseRefused], None]


def ignore(_error: DatabaseRefused) -> None:
    """Go on: the next try says the same."""


def end_process(
    database: Database, holdings: Holdings, error: DatabaseRefused,
    *, status_of: Callable[[BatchmillError], int] = exit_status.status_of,
) -> NoReturn:  # fmt: skip
    """Give the leases back, so that nobody takes this for a death over an input, and end.

    The status is one for a supervisor to read, unless told otherwise.
    """
    why = schema.explained(database, error)
    log.error("the database refuses what this process needs; the process ends", code=why.code, error=str(why))
    try:
        with database.write() as connection:
            claims.release(connection, holdings.leases())
    except (DatabaseRefused, Unreachable) as refused:
        log.warning("could not give leases back; they run out by themselves", error=str(refused))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status_of(why))
