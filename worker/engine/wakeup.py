"""The doorbell: between the Celery thread that hears a bell and the engine that answers by claiming."""

import threading


class WakeupSignal:
    """A bell rung while the engine is busy blocks its caller until the engine looks at SQL: so a busy worker leaves
    the further bells on Redis, to an idle one.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._is_notified = False
        self._acknowledgements = 0
        self._closed = False

    def notify_and_wait(self) -> None:
        """Wake the engine, and return once it has begun to look (or the bell is closed)."""
        with self._condition:
            seen = self._acknowledgements
            self._is_notified = True
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._closed or self._acknowledgements > seen)

    def notify(self) -> None:
        """Wake the engine without waiting for it."""
        with self._condition:
            self._is_notified = True
            self._condition.notify_all()

    def wait(self, seconds: float) -> None:
        """Sleep until a bell rings, the bell is closed, or the time is up."""
        with self._condition:
            self._condition.wait_for(lambda: self._is_notified or self._closed, timeout=seconds)

    def acknowledge(self) -> None:
        """Say that the engine looks at SQL now: whoever rang before is answered."""
        with self._condition:
            self._is_notified = False
            self._acknowledgements += 1
            self._condition.notify_all()

    def close(self) -> None:
        """Let everybody go: the process ends."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
