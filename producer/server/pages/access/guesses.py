"""Guesses: how many wrong keys a minute are answered and logged on the form for signing in."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from models.errors import TooManyRequests

WINDOW_SECONDS = 60.0
MAX_OF_ADDRESS = 20  # wrong keys in a window
MAX_REMEMBERED_ADDRESSES = 10_000


class GuessLimit:
    """Counts wrong keys by address; threads may share it.

    A key has too many bits to be guessed, and behind a proxy that is not trusted all people have one address. So a
    right key always signs in, and the limit only keeps somebody who tries wrong ones from filling the log.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when a window ends, and wrong keys in it

    def note_wrong_key(self, address: str) -> None:
        """Count a wrong key; raises TooManyRequests if too many came from its address."""
        now = self._clock()
        with self._lock:
            ends_at, wrong = self._windows.pop(address, (0.0, 0))
            ends_at, wrong = (ends_at, wrong + 1) if now < ends_at else (now + WINDOW_SECONDS, 1)
            self._windows[address] = (ends_at, wrong)
            if len(self._windows) > MAX_REMEMBERED_ADDRESSES:
                self._windows.popitem(last=False)
        if wrong > MAX_OF_ADDRESS:
            seconds = max(1.0, ends_at - now)
            raise TooManyRequests(f"too many wrong keys were tried; try again in {seconds:.0f} seconds", seconds)
