"""Acts that commit in chunks and may take minutes on millions of jobs.

A request waits a while for its act and then answers 202. The act goes on to its end, also if the client has gone, and
what a killed server leaves undone is finished by the same request, or by maintenance. While an act runs, an equal
request joins it.
"""

import asyncio
from collections.abc import Callable, Hashable
from copy import copy
from dataclasses import dataclass
from threading import BoundedSemaphore

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import Response

from models.errors import TooManyRequests

MAX_WAIT_SECONDS = 20.0  # proxies give up after 30 or 60
MAX_ACTS = 8  # at once in this process
RETRY_SECONDS = 5.0
POLL_SECONDS = 1.0  # between two looks at an act that may not be answered yet

log = structlog.get_logger(__name__)

_permits = BoundedSemaphore(MAX_ACTS)
_tasks: dict[Hashable, "asyncio.Task[Response | Exception]"] = {}  # those that run; the loop itself keeps none alive


@dataclass(frozen=True, slots=True)
class Act:
    """One change of a batch.

    key: equal for requests of the same change by the same tenant, which share one act
    run: performs it, and makes the response
    answer_early: makes the response while the act goes on; None = its outcome is still open, so the client waits
    discard: called for a request whose act is not run, because it joins another or is refused
    """

    key: Hashable
    run: Callable[[], Response]
    answer_early: Callable[[], Response | None]
    discard: Callable[[], object] = lambda: None


async def perform(act: Act) -> Response:
    """Perform an act in a separate thread, and return its response; raises what it raises, or TooManyRequests."""
    task = _tasks.get(act.key)
    if task is None:
        task = await _start(act)
    else:
        await to_thread.run_sync(act.discard)
    await asyncio.wait({task}, timeout=MAX_WAIT_SECONDS)
    while not task.done():
        response = await to_thread.run_sync(act.answer_early)
        if response is not None:
            task.add_done_callback(_log_failure)
            return response
        await asyncio.wait({task}, timeout=POLL_SECONDS)
    outcome = task.result()
    if isinstance(outcome, Exception):
        raise outcome
    response = copy(outcome)  # each request adds headers to it
    response.raw_headers = list(outcome.raw_headers)
    return response


async def _start(act: Act) -> "asyncio.Task[Response | Exception]":
    if not _permits.acquire(blocking=False):
        await to_thread.run_sync(act.discard)
        raise TooManyRequests(f"{MAX_ACTS} other requests change batches now; come again", RETRY_SECONDS)
    # A separate thread, because it may be busy for long and others share theirs; a separate task, because nothing that
    # happens to the request ends it.
    task = asyncio.create_task(to_thread.run_sync(_run, act.run, limiter=CapacityLimiter(1)))
    _tasks[act.key] = task
    task.add_done_callback(lambda _: _tasks.pop(act.key))
    return task


def _run(run: Callable[[], Response]) -> Response | Exception:
    try:
        return run()
    except Exception as error:
        return error
    finally:
        _permits.release()


def _log_failure(task: asyncio.Task[Response | Exception]) -> None:
    outcome = None if task.cancelled() else task.result()
    if isinstance(outcome, Exception):
        log.warning("request.act_failed", error_type=type(outcome).__name__)
