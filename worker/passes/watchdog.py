"""The watchdog notices calls that hang. Such a call can't be interrupted, so the whole process is ended."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.processes.background import PeriodicThread

CHECKS_PER_LIMIT = 8  # a hang is noticed an eighth of the limit late, at most
MAX_CHECK_INTERVAL_SECONDS = 1.0

# Ends the process. Called with the pipeline whose call hangs, and with what it was loaded for: `pipeline` or `guard`.
OnHang = Callable[[str, str], object]


class Watchdog(PeriodicThread):
    """Watches calls of several threads.

    limit_seconds: how long one call may take.
    on_hang: called once, from the watchdog's thread, when a call takes longer.
    """

    def __init__(self, limit_seconds: float, on_hang: Callable[[], object]) -> None:
        super().__init__("watchdog")
        self._limit_seconds = limit_seconds
        self._on_hang = on_hang
        self._call_started_at: dict[int, float] = {}  # by thread, on the monotonic clock

    @contextmanager
    def watch(self, elapsed_seconds: float = 0.0) -> Iterator[None]:
        """Watch this block, the rest of a call that has taken `elapsed_seconds`; `reset_timer` restarts its time."""
        thread = threading.get_ident()
        self._call_started_at[thread] = time.monotonic() - elapsed_seconds
        try:
            yield
        finally:
            del self._call_started_at[thread]

    def reset_timer(self) -> None:
        """Restart the time of this thread's call, because it has made progress."""
        if threading.get_ident() in self._call_started_at:
            self._call_started_at[threading.get_ident()] = time.monotonic()

    def run_once(self, now: float) -> bool:
        """Whether any call takes too long; `now` is a time of the monotonic clock."""
        return any(now - started_at > self._limit_seconds for started_at in list(self._call_started_at.values()))

    def _loop(self) -> None:
        while not self._stopping.wait(min(MAX_CHECK_INTERVAL_SECONDS, self._limit_seconds / CHECKS_PER_LIMIT)):
            if self.run_once(time.monotonic()):
                self._on_hang()
                return
