"""Refusal by the database: it answers, but rejects what this process needs. The process ends with a reason."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import structlog

from models import schema
from models.db import Database
from models.errors import BatchmillError, DatabaseRefused, Unreachable
from worker import exit_status
from worker.leasing.claiming import claims
from worker.leasing.leases import HeldLeases

log = structlog.get_logger(__name__)

OnRefusal = Callable[[DatabaseRefused], None]


def ignore_refusal(_error: DatabaseRefused) -> None:
    """Continue, because the next attempt reports the same."""


def log_cause(database: Database, error: DatabaseRefused) -> BatchmillError:
    """Log that the process ends, and return the error that explains why."""
    cause = schema.explain_refusal(database, error)
    reason = "the database refuses what this process needs"
    log.error("process.aborted", error_code=cause.code, error=str(cause), reason=reason)
    return cause


def end_process(database: Database, held_leases: HeldLeases, error: DatabaseRefused) -> NoReturn:
    """Release the leases, so that no slice is blamed for a crash, and end the process with a status for supervisors."""
    cause = log_cause(database, error)
    try:
        with database.write() as connection:
            claims.release(connection, held_leases.leases())
    except (DatabaseRefused, Unreachable) as refused:
        log.warning("leases.release_failed", error=str(refused), reason="they expire by themselves")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_status.exit_status_for(cause))
