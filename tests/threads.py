"""Threads for race tests: they start together, and each join has a timeout."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.servers import WAIT_TIMEOUT_SECONDS

Result = TypeVar("Done")


def join_threads(name: str) -> None:
    """Wait for the threads of this name, which would otherwise outlive the test that started them."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(WAIT_TIMEOUT_SECONDS)


def run_concurrently(*calls: Callable[[], Result]) -> list[Result]:
    """Run these calls in threads that start together; returns their results in order."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Result]) -> Result:
        barrier.wait(WAIT_TIMEOUT_SECONDS)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(WAIT_TIMEOUT_SECONDS) for future in [pool.submit(run, call) for call in calls]]
