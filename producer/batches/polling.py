"""Polling reads a batch, less and less often, until it has ended."""

import time
from collections.abc import Callable, Iterator

from models.errors import WaitTimeout
from producer.advice import wait_again
from producer.batches.batch_view import BatchView, check_not_deleting

MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS, BACKOFF_FACTOR = 0.05, 1.0, 1.3


def poll_intervals() -> Iterator[float]:
    """Yield the seconds between polls: short at first, so that a small batch ends promptly, then up to one second."""
    pause = MIN_INTERVAL_SECONDS
    while True:
        yield pause
        pause = min(MAX_INTERVAL_SECONDS, pause * BACKOFF_FACTOR)


def wait_until_ended(
    read_batch: Callable[[], BatchView],
    timeout: float | None = None,
    on_poll: Callable[[BatchView], object] | None = None,
) -> BatchView:
    """Poll a batch until it has ended, and return it.

    read_batch: reads it, such as from SQL; raises NotFound
    timeout: seconds, None = no limit
    on_poll: called with the batch at every poll

    Raises WaitTimeout, and NotFound when there is no such batch, or it is being deleted.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    for pause in poll_intervals():
        batch = read_batch()
        check_not_deleting(batch)
        if on_poll is not None:
            on_poll(batch)
        if batch.status.has_ended:
            return batch
        seconds_left = pause if deadline is None else deadline - time.monotonic()
        if seconds_left <= 0:
            counts = batch.counts
            raise WaitTimeout(
                f"{batch.id} is {batch.status} with {counts.ended:,} of {counts.total:,} jobs done, and goes on; "
                + wait_again(batch.id)
            )
        time.sleep(min(pause, seconds_left))
    raise AssertionError("poll_intervals() never ends")
