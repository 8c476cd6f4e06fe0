"""Acts that commit in chunks and may take minutes on millions of jobs.

A request waits a while for its act and then answers 202. The act goes on to its end, also if the client has gone, and
what a killed server leaves undone is finished by the same request, or by maintenance. While an act runs, an equal
request joins it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import Response

from models.errors import TooManyRequests

MAX_WAIT_SECONDS = 20.0  # proxies give up after 30 or 60
RETRY_SECONDS = 5.0
POLL_SECONDS = 1.0  # between two looks at an act that may not be answered yet

log = structlog.get_logger(__name__)

T = TypeVar("T")


class ActPermits:
    """A limit on acts at once, in this process and for one tenant, so that no tenant keeps others from theirs.

    most: acts of all tenants
    most_of_tenant: acts of one; the operator has no such limit
    """

    def __init__(self, most: int, most_of_tenant: int) -> None:
        self._most = most
        self._most_of_tenant = most_of_tenant
        self._taken: Counter[str | None] = Counter()
        self._lock = Lock()

    def take(self, tenant: str | None) -> None:
        """Take a permit; raises TooManyRequests."""
        with self._lock:
            if tenant is not None and self._taken[tenant] >= self._most_of_tenant:
                raise TooManyRequests(
                    f"{self._most_of_tenant} of your requests change batches now; come again", RETRY_SECONDS
                )
            if self._taken.total() >= self._most:
                raise TooManyRequests(f"{self._most} other requests change batches now; come again", RETRY_SECONDS)
            self._taken[tenant] += 1

    def give_back(self, tenant: str | None) -> None:
        """Give a permit back."""
        with self._lock:
            self._taken[tenant] -= 1
            self._taken += Counter()  # keeps those above 0


# A repair reads its rows, so it may take minutes; a batch must be cancelled at once.
REPAIRS = ActPermits(4, 1)
CHANGES = ActPermits(8, 2)

_tasks: dict[Hashable, "asyncio.Task[Any]"] = {}  # those that run; the loop itself keeps none alive


@dataclass(frozen=True, slots=True)
class Act(Generic[T]):
    """One change of a batch.

    key: equal for requests of the same change, which share one act if they come from the same tenant
    tenant: who asks for it; None = the operator
    run: performs it, and returns what all these requests answer from
    permits: how many such acts there may be
    discard: called for a request whose act is not run, because it joins another or is refused
    """

    key: Hashable
    tenant: str | None
    run: Callable[[], T]
    permits: ActPermits
    discard: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """How one request is answered.

    when_done: makes the response from what the act returned
    meanwhile: makes the response while the act goes on; None = its outcome is still open, so the client waits
    wait_seconds: how long the client waits before that; None = MAX_WAIT_SECONDS
    """

    when_done: Callable[[T], Response]
    meanwhile: Callable[[], Response | None]
    wait_seconds: float | None = None


async def perform(act: Act[T], reply: Reply[T]) -> Response:
    """Perform an act in a separate thread, and return the response; raises what it raises, or TooManyRequests."""
    task: asyncio.Task[T | Exception] | None = _tasks.get((act.tenant, act.key))
    if task is None:
        task = await _start(act)
    else:
        await to_thread.run_sync(act.discard)
    await asyncio.wait({task}, timeout=MAX_WAIT_SECONDS if reply.wait_seconds is None else reply.wait_seconds)
    while not task.done():
        response = await to_thread.run_sync(reply.meanwhile)
        if response is not None:
            task.add_done_callback(_log_failure)
            return response
        await asyncio.wait({task}, timeout=POLL_SECONDS)
    outcome = task.result()
    if isinstance(outcome, Exception):
        raise outcome
    return await to_thread.run_sync(reply.when_done, outcome)


async def _start(act: Act[T]) -> "asyncio.Task[T | Exception]":
    try:
        act.permits.take(act.tenant)
    except TooManyRequests:
        await to_thread.run_sync(act.discard)
        raise
    # A separate thread, because it may be busy for long and others share theirs; a separate task, because nothing that
    # happens to the request ends it.
    limiter = CapacityLimiter(1)
    task: asyncio.Task[T | Exception] = asyncio.create_task(to_thread.run_sync(_run, act, limiter=limiter))
    key = (act.tenant, act.key)
    _tasks[key] = task
    task.add_done_callback(lambda _: _tasks.pop(key))
    return task


def _run(act: Act[T]) -> T | Exception:
    try:
        return act.run()
    except Exception as error:
        return error
    finally:
        act.permits.give_back(act.tenant)


def _log_failure(task: asyncio.Task[Any]) -> None:
    outcome = None if task.cancelled() else task.result()
    if isinstance(outcome, Exception):
        log.warning("request.act_failed", error_type=type(outcome).__name__)
