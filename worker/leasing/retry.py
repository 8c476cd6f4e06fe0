"""Patience with a database that blinks: what was computed is not thrown away for that."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from models.errors import Unreachable

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

RETRY_DELAYS_SECONDS = (0.1, 0.5, 1.0, 2.0)  # the last one again and again


def retry_while_unreachable(work: Callable[[bool], Result]) -> Result:
    """Work until the database takes part.

    `work` is told whether it was tried before, since a commit may have happened without our hearing of it. What can't
    pass is raised: a refusal, or tables of another version.
    """
    tries = 0
    while True:
        try:
            return work(tries > 0)
        except Unreachable as error:
            if not error.retryable:
                raise
            pause = RETRY_DELAYS_SECONDS[min(tries, len(RETRY_DELAYS_SECONDS) - 1)]
            log.warning("the database did not take a transaction, will try again", error=str(error), seconds=pause)
            time.sleep(pause)
            tries += 1
