"""Acts that commit in chunks and may take minutes on millions of jobs.

A request waits a while for its act and then answers 202. The act goes on to its end, also if the client has gone, and
what a killed server leaves undone is finished by the same request, or by maintenance.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from threading import Lock

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import Response

from models.errors import TooManyRequests

MAX_WAIT_SECONDS = 20.0  # proxies give up after 30 or 60
RETRY_SECONDS = 5.0

log = structlog.get_logger(__name__)


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

_tasks: set[asyncio.Task[Response | Exception]] = set()  # the loop itself keeps none alive


async def perform(
    act: Callable[[], Response], answer_later: Callable[[], Response], tenant: str | None, permits: ActPermits = CHANGES
) -> Response:
    """Perform an act in a separate thread, and return its response; raises what it raises, or TooManyRequests.

    answer_later: makes the response while the act goes on
    tenant: who asks for it; None = the operator
    """
    permits.take(tenant)
    # A separate thread, because it may be busy for long and others share theirs; a separate task, because nothing that
    # happens to the request ends it.
    task = asyncio.create_task(to_thread.run_sync(_run, act, tenant, permits, limiter=CapacityLimiter(1)))
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


def _run(act: Callable[[], Response], tenant: str | None, permits: ActPermits) -> Response | Exception:
    try:
        return act()
    except Exception as error:
        return error
    finally:
        permits.give_back(tenant)


def _log_failure(task: asyncio.Task[Response | Exception]) -> None:
    outcome = None if task.cancelled() else task.result()
    if isinstance(outcome, Exception):
        log.warning("request.act_failed", error_type=type(outcome).__name__)
