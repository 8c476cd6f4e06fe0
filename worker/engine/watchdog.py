"""The watchdog: a call into a library that does not come back can't be interrupted, so its whole process is ended."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.background import Background

LOOKS = 8  # within the limit: a hang is noticed so much later at most
LONGEST_PAUSE_SECONDS = 1.0


class Watchdog(Background):
    """`on_hang` is called once, from its own thread, when one call takes longer than `seconds`."""

    def __init__(self, seconds: float, on_hang: Callable[[], object]) -> None:
        super().__init__("watchdog")
        self._seconds = seconds
        self._on_hang = on_hang
        self._began: dict[int, float] = {}  # of the call that each thread is in, by the monotonic clock

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what is done in this block; `alive` gives it the whole time again."""
        thread = threading.get_ident()
        self._began[thread] = time.monotonic()
        try:
            yield
        finally:
            del self._began[thread]

    def alive(self) -> None:
        """Note that what this thread is watched for has come forward."""
        if threading.get_ident() in self._began:
            self._began[threading.get_ident()] = time.monotonic()

    def run_once(self, now: float) -> bool:
        """Whether a call that runs at this moment of the monotonic clock takes too long."""
        return any(now - began > self._seconds for began in list(self._began.values()))

    def _loop(self) -> None:
        while not self._stopping.wait(min(LONGEST_PAUSE_SECONDS, self._seconds / LOOKS)):
            if self.run_once(time.monotonic()):
                self._on_hang()
                return
