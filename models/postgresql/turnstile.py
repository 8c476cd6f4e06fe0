"""A turnstile: lets some threads through at once, and the others in the order in which they came.

A lock alone goes to whoever asks in the right moment. A thread that gives it back and asks again at once has it nearly
every time, and another may wait for ten seconds.
"""

import threading
from collections import deque


class FairSemaphore:
    """Has so many places."""

    def __init__(self, permits: int) -> None:
        self._available = permits
        self._mutex = threading.Lock()
        self._waiters: deque[threading.Lock] = deque()

    def acquire(self, timeout_seconds: float) -> bool:
        """Take a place, and wait for one so long; False where there was none."""
        with self._mutex:
            if self._available:
                self._available -= 1
                return True
            turn = threading.Lock()
            turn.acquire()
            self._waiters.append(turn)
        if turn.acquire(timeout=timeout_seconds):
            return True
        with self._mutex:
            if turn not in self._waiters:  # given to us in the last moment
                return True
            self._waiters.remove(turn)
            return False

    def release(self) -> None:
        """Give a place back, to whoever waits for longest."""
        with self._mutex:
            if self._waiters:
                self._waiters.popleft().release()
            else:
                self._available += 1
