"""The pulse: news of whoever works at something, while that is slow, so that nobody takes it for dead."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from models.errors import DatabaseRefused, Unreachable


class Pulse:
    """Beats from a thread of its own while the block runs; `beat` is one, and says whether there is to be another."""

    def __init__(self, beat: Callable[[], bool], seconds: float) -> None:
        self._beat = beat
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                if not self._beat():
                    return  # what is written next says so
            except Unreachable:
                continue  # as does what is written next, if that lasts
            except DatabaseRefused:
                return
