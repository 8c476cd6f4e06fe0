"""The device lock lets the threads of a process take turns on their device, first come, first served.

A plain lock would let a thread that runs one pass after another keep the others waiting for as long as it has work.
"""

import threading
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

# The turns of a process in which one thread alone runs passes.
NO_TURNS: AbstractContextManager[object] = nullcontext()


class DeviceLock:
    """A lock that goes to the thread that has waited longest. Not reentrant."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._is_held = False

    def __enter__(self) -> None:
        with self._mutex:
            if not self._is_held:
                self._is_held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()  # until the thread before hands the device over

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()  # it stays held: a thread that comes now waits behind the others
            else:
                self._is_held = False
