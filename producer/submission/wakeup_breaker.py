"""A circuit breaker before Redis, for a process that serves many submissions at once."""

import threading
import time
from dataclasses import dataclass, field

from models.settings import Settings
from producer.submission import submit

AGAIN_SECONDS = 5.0


@dataclass(eq=False, slots=True)
class WakeupBreaker:
    """Sends wakeups, and spares others the wait for a Redis that does not answer.

    A Redis that is frozen keeps each submission waiting for `redis_timeout_seconds`, and with it a thread of the
    server. After a failure only one submission in AGAIN_SECONDS tries again; workers find the work of the others in
    SQL.
    """

    settings: Settings
    _failure: str | None = None
    _tried_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, pipeline: str, slices: int) -> str | None:
        """Send wakeups for slices of an accepted batch; returns a sentence if they can't be sent."""
        if not slices:  # nothing is asked of Redis, which tells nothing about it either
            return None
        if (failure := self._known_failure()) is not None:
            return failure
        failure = submit.notify_workers(self.settings, pipeline, slices)
        with self._lock:
            self._failure, self._tried_at = failure, time.monotonic()
        return failure

    def _known_failure(self) -> str | None:
        """Return why wakeups can't be sent, unless it is time to try again."""
        with self._lock:
            now = time.monotonic()
            if self._failure is None or now - self._tried_at < AGAIN_SECONDS:
                return self._failure
            self._tried_at = now  # the others go on without waiting for this one
            return None
