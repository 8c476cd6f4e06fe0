"""Background threads for periodic tasks, heartbeats and the watch on the parent process."""

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from models.errors import DatabaseRefused, Unreachable


class UnexpectedErrorLog:
    """Logs unexpected errors: the first of a kind with its traceback, each repetition in one line."""

    def __init__(self, log: Any, event: str) -> None:
        self._log = log
        self._event = event
        self._seen: Counter[tuple[str, str]] = Counter()

    def record(self, error: Exception) -> None:
        """Log the error that is being handled."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        kind = (type(error).__name__, where)
        self._seen[kind] += 1
        if self._seen[kind] == 1:
            self._log.exception(self._event, error=kind[0])
        else:
            self._log.error(self._event, error=kind[0], location=where, count=self._seen[kind])


class PeriodicThread(ABC):
    """A daemon thread that runs `_loop` until `_stopping` is set."""

    def __init__(self, name: str) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the current round and end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @abstractmethod
    def _loop(self) -> None:
        """Act repeatedly, waiting on `_stopping` in between, until it is set."""


class HeartbeatThread(PeriodicThread):
    """Context manager that calls `beat` from a separate thread while its block runs.

    beat: sends one heartbeat and returns False to stop
    interval_seconds: time between two heartbeats
    """

    def __init__(self, beat: Callable[[], bool], interval_seconds: float) -> None:
        super().__init__("heartbeat")
        self._beat = beat
        self._interval_seconds = interval_seconds

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def _loop(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            try:
                if not self._beat():
                    return  # the next fenced write fails too and reports it
            except Unreachable:
                continue  # the next write reports it, if the outage lasts
            except DatabaseRefused:
                return


def exit_with_parent() -> None:
    """Send SIGTERM to this process when standard input closes, as it does even after a SIGKILL of the parent."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
