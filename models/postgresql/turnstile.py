"""A fair semaphore that serves waiting threads in the order of their requests.

A plain lock goes to the thread that asks at the right moment. A thread that releases it and asks again nearly always
wins, and another may wait for ten seconds.
"""

import threading
from collections import deque


class FairSemaphore:
    """A semaphore that wakes waiters in first-in, first-out order."""

    def __init__(self, permits: int) -> None:
        self._available = permits
        self._mutex = threading.Lock()
        self._waiters: deque[threading.Lock] = deque()

    def acquire(self, timeout_seconds: float) -> bool:
        """Acquire a permit; returns False if none became free in time."""
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
            if turn not in self._waiters:  # handed over just before the timeout
                return True
            self._waiters.remove(turn)
            return False

    def release(self) -> None:
        """Release a permit to the longest-waiting thread."""
        with self._mutex:
            if self._waiters:
                self._waiters.popleft().release()
            else:
                self._available += 1
