"""Waiting: look at a batch, ever less often, until it has ended."""

import time
from collections.abc import Callable, Iterator

from models.db import Database
from models.errors import WaitRanOut
from producer.batches import views
from producer.batches.views import BatchView

SHORTEST_SECONDS, LONGEST_SECONDS, GROWTH = 0.05, 1.0, 1.3


def pauses() -> Iterator[float]:
    """Seconds between looks: short at first, so that a small batch is noticed at once, then never over a second."""
    pause = SHORTEST_SECONDS
    while True:
        yield pause
        pause = min(LONGEST_SECONDS, pause * GROWTH)


def until_ended(
    database: Database, batch_id: str, timeout: float | None = None, watch: Callable[[BatchView], object] | None = None
) -> BatchView:
    """The batch as it ended; `watch` sees every look at it. `timeout` is in seconds.

    Raises WaitRanOut, and NotFound when there is no such batch.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    for pause in pauses():
        batch = views.get(database, batch_id)
        if watch is not None:
            watch(batch)
        if batch.status.ended:
            return batch
        left = pause if deadline is None else deadline - time.monotonic()
        if left <= 0:
            counts = batch.counts
            raise WaitRanOut(
                f"{batch_id} is {batch.status} with {counts.ended:,} of {counts.total:,} jobs done, and goes on; "
                f"wait again: batchmill wait {batch_id}"
            )
        time.sleep(min(pause, left))
    raise AssertionError("the pauses never end")
