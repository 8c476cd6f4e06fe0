"""A turnstile: lets some threads through at once, and the others in the order in which they came.

A lock alone goes to whoever asks in the right moment. A thread that gives it back and asks again at once has it nearly
every time, and another may wait for ten seconds.
"""

import threading
from collections import deque


class Turnstile:
    """Has so many places."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()

    def enter(self, seconds: float) -> bool:
        """Take a place, and wait for one so long; False where there was none."""
        with self._mutex:
            if self._free:
                self._free -= 1
                return True
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        if turn.acquire(timeout=seconds):
            return True
        with self._mutex:
            if turn not in self._waiting:  # given to us in the last moment
                return True
            self._waiting.remove(turn)
            return False

    def leave(self) -> None:
        """Give a place back, to whoever waits for longest."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
