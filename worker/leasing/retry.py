"""Retry of transactions while the database is unreachable, so that computed results are not lost."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from models.errors import Unreachable

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

RETRY_DELAYS_SECONDS = (0.1, 0.5, 1.0, 2.0)  # the last one repeats


def retry_while_unreachable(work: Callable[[bool], Result]) -> Result:
    """Call `work` until the database is reachable, and return its result.

    work: its argument is True from the second call on, because the first may have committed before the connection
        broke.

    Raises errors that a retry can't cure: a refusal, or tables of another version.
    """
    attempts = 0
    while True:
        try:
            return work(attempts > 0)
        except Unreachable as error:
            if not error.retryable:
                raise
            pause = RETRY_DELAYS_SECONDS[min(attempts, len(RETRY_DELAYS_SECONDS) - 1)]
            log.warning("database.unreachable", operation="transaction", error=str(error), retry_seconds=pause)
            time.sleep(pause)
            attempts += 1
