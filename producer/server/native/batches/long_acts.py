"""Acts that commit in chunks and may take minutes on millions of jobs.

A request waits a while for its act and then answers 202. The act goes on to its end, also if the client has gone, and
what a killed server leaves undone is finished by the same request, or by maintenance.
"""

import asyncio
from collections.abc import Callable
from threading import BoundedSemaphore

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import Response

from models.errors import TooManyRequests

MAX_WAIT_SECONDS = 20.0  # proxies give up after 30 or 60
MAX_ACTS = 8  # at once in this process
RETRY_SECONDS = 5.0

log = structlog.get_logger(__name__)

_permits = BoundedSemaphore(MAX_ACTS)
_tasks: set[asyncio.Task[Response | Exception]] = set()  # the loop itself keeps none alive


async def perform(act: Callable[[], Response], answer_later: Callable[[], Response]) -> Response:
    """Perform an act in a separate thread, and return its response; raises what it raises, or TooManyRequests.

    answer_later: makes the response while the act goes on
    """
    if not _permits.acquire(blocking=False):
        raise TooManyRequests(f"{MAX_ACTS} other requests change batches now; come again", RETRY_SECONDS)
    # A separate thread, because it may be busy for long and others share theirs; a separate task, because nothing that
    # happens to the request ends it.
    task = asyncio.create_task(to_thread.run_sync(_run, act, limiter=CapacityLimiter(1)))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    await asyncio.wait({task}, timeout=MAX_WAIT_SECONDS)
    if not task.done():
        task.add_done_callback(_log_failure)
        return await to_thread.run_sync(answer_later)
    outcome = task.result()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _run(act: Callable[[], Response]) -> Response | Exception:
    try:
        return act()
    except Exception as error:
        return error
    finally:
        _permits.release()


def _log_failure(task: asyncio.Task[Response | Exception]) -> None:
    outcome = None if task.cancelled() else task.result()
    if isinstance(outcome, Exception):
        log.warning("request.act_failed", error_type=type(outcome).__name__)
