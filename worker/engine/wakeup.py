"""The wakeup signal connects the Celery thread, which receives wakeups, with the engine, which then claims slices."""

import threading


class WakeupSignal:
    """Wakes the engine; a caller that notifies a busy engine blocks until the engine queries SQL.

    So a busy worker leaves further wakeups on Redis, for idle workers.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._is_notified = False
        self._acknowledgements = 0
        self._closed = False

    def notify_and_wait(self) -> None:
        """Wake the engine, and return once it has acknowledged, or the signal is closed."""
        with self._condition:
            acknowledged_before = self._acknowledgements
            self._is_notified = True
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._closed or self._acknowledgements > acknowledged_before)

    def notify(self) -> None:
        """Wake the engine without waiting for it."""
        with self._condition:
            self._is_notified = True
            self._condition.notify_all()

    def wait(self, seconds: float) -> None:
        """Sleep until a notification, until the signal is closed, or for `seconds`."""
        with self._condition:
            self._condition.wait_for(lambda: self._is_notified or self._closed, timeout=seconds)

    def acknowledge(self) -> None:
        """Release all waiting callers, because the engine queries SQL now."""
        with self._condition:
            self._is_notified = False
            self._acknowledgements += 1
            self._condition.notify_all()

    def close(self) -> None:
        """Release all callers for good, because the process ends."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
