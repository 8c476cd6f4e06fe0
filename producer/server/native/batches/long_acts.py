"""Acts that commit in chunks and may take minutes on millions of jobs.

A request waits a while for its act and then answers 202. The act goes on to its end, also if the client has gone, and
what a killed server leaves undone is finished by the same request, or by maintenance.
"""

from collections.abc import Callable
from threading import BoundedSemaphore

import anyio
import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import Response

from models.errors import TooManyRequests

MAX_WAIT_SECONDS = 20.0  # proxies give up after 30 or 60
MAX_ACTS = 8  # at once in this process
RETRY_SECONDS = 5.0

log = structlog.get_logger(__name__)

_permits = BoundedSemaphore(MAX_ACTS)


async def perform(act: Callable[[], Response], answer_later: Callable[[], Response]) -> Response:
    """Perform an act in a separate thread, and return its response; raises what it raises, or TooManyRequests.

    answer_later: makes the response while the act goes on
    """
    if not _permits.acquire(blocking=False):
        raise TooManyRequests(f"{MAX_ACTS} other requests change batches now; come again", RETRY_SECONDS)
    is_abandoned = False

    def run() -> Response | Exception:
        try:
            return act()
        except Exception as error:
            if is_abandoned:
                log.warning("request.act_failed", error_type=type(error).__name__)
            return error
        finally:
            _permits.release()

    with anyio.move_on_after(MAX_WAIT_SECONDS):
        # Not one of the threads that all requests share, because it may be busy for long.
        outcome = await to_thread.run_sync(run, abandon_on_cancel=True, limiter=CapacityLimiter(1))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
    is_abandoned = True
    return await to_thread.run_sync(answer_later)
