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
from worker.leasing.leases import HeldLeases

log = structlog.get_logger(__name__)

OnRefusal = Callable[[DatabaseRefused], None]


def ignore_refusal(_error: DatabaseRefused) -> None:
    """Go on: the next try says the same."""


def end_process(
    database: Database,
    held_leases: HeldLeases,
    error: DatabaseRefused,
    *,
    exit_status_for: Callable[[BatchmillError], int] = exit_status.exit_status_for,
) -> NoReturn:
    """Give the leases back, so that nobody takes this for a death over an input, and end.

    The status is one for a supervisor to read, unless told otherwise.
    """
    why = schema.explain_refusal(database, error)
    log.error("the database refuses what this process needs; the process ends", code=why.code, error=str(why))
    try:
        with database.write() as connection:
            claims.release(connection, held_leases.leases())
    except (DatabaseRefused, Unreachable) as refused:
        log.warning("could not give leases back; they run out by themselves", error=str(refused))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_status_for(why))
