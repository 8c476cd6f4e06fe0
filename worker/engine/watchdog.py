"""The watchdog: a call into a library that does not come back can't be interrupted, so its whole process is ended."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.background import PeriodicThread

CHECKS_PER_LIMIT = 8  # within the limit: a hang is noticed so much later at most
MAX_CHECK_INTERVAL_SECONDS = 1.0


class Watchdog(PeriodicThread):
    """`on_hang` is called once, from its own thread, when one call takes longer than `seconds`."""

    def __init__(self, limit_seconds: float, on_hang: Callable[[], object]) -> None:
        super().__init__("watchdog")
        self._limit_seconds = limit_seconds
        self._on_hang = on_hang
        self._call_started_at: dict[int, float] = {}  # of the call that each thread is in, by the monotonic clock

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Watch what is done in this block; `alive` gives it the whole time again."""
        thread = threading.get_ident()
        self._call_started_at[thread] = time.monotonic()
        try:
            yield
        finally:
            del self._call_started_at[thread]

    def reset_timer(self) -> None:
        """Note that what this thread is watched for has come forward."""
        if threading.get_ident() in self._call_started_at:
            self._call_started_at[threading.get_ident()] = time.monotonic()

    def run_once(self, now: float) -> bool:
        """Whether a call that runs at this moment of the monotonic clock takes too long."""
        return any(now - began > self._limit_seconds for began in list(self._call_started_at.values()))

    def _loop(self) -> None:
        while not self._stopping.wait(min(MAX_CHECK_INTERVAL_SECONDS, self._limit_seconds / CHECKS_PER_LIMIT)):
            if self.run_once(time.monotonic()):
                self._on_hang()
                return
