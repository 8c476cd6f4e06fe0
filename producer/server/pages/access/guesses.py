"""Guesses: how many wrong keys a minute may be tried on the form for signing in."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from models.errors import TooManyRequests

WINDOW_SECONDS = 60.0
MAX_OF_ADDRESS, MAX_OF_ALL = 20, 200  # wrong keys in a window; behind a proxy all people have one address
MAX_REMEMBERED_ADDRESSES = 10_000
ALL = ""  # in place of an address


class GuessLimit:
    """Counts wrong keys by address; threads may share it. A key can't be guessed, but each guess costs a query."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when a window ends, and wrong keys in it

    def check(self, address: str) -> None:
        """Raise TooManyRequests if too many wrong keys came from an address, or from all addresses."""
        now = self._clock()
        with self._lock:
            waits = [self._wait(name, most, now) for name, most in ((address, MAX_OF_ADDRESS), (ALL, MAX_OF_ALL))]
        if seconds := max(waits):
            raise TooManyRequests(f"too many wrong keys were tried; try again in {seconds:.0f} seconds", seconds)

    def note_wrong_key(self, address: str) -> None:
        """Count a wrong key."""
        now = self._clock()
        with self._lock:
            for name in (address, ALL):
                ends_at, wrong = self._windows.pop(name, (0.0, 0))
                self._windows[name] = (ends_at, wrong + 1) if now < ends_at else (now + WINDOW_SECONDS, 1)
            while len(self._windows) > MAX_REMEMBERED_ADDRESSES:
                self._windows.popitem(last=False)

    def _wait(self, name: str, most: int, now: float) -> float:
        ends_at, wrong = self._windows.get(name, (0.0, 0))
        return max(1.0, ends_at - now) if wrong >= most and now < ends_at else 0.0
