"""Threads for tests of races: they start together, and none is waited for longer than a test may take."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.servers import PATIENCE_SECONDS

Done = TypeVar("Done")


def at_once(*calls: Callable[[], Done]) -> list[Done]:
    """Run these in threads that start together; returns what each gave, in order."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Done]) -> Done:
        barrier.wait(PATIENCE_SECONDS)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(PATIENCE_SECONDS) for future in [pool.submit(run, call) for call in calls]]
