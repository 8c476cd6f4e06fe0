"""Whether Redis answers, known without waiting for it."""

import threading
import time
from dataclasses import dataclass, field

from models.errors import Unreachable
from models.lifecycle import wakeups
from models.settings import Settings

AGAIN_SECONDS = 20.0


@dataclass(eq=False, slots=True)
class RedisWatch:
    """Remembers the last answer of Redis. It is there at once; if it is old, a thread asks again.

    The embedded Valkey of `batchmill up` is not watched: without `up` there are no workers either.
    """

    settings: Settings
    _trouble: str | None = None
    _asked_at: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def trouble(self) -> str | None:
        """Say why Redis does not answer, as of the last check; None if it does, or before the first one."""
        if self.settings.redis_url is not None and self._is_due():
            threading.Thread(target=self._ask, name="redis-watch", daemon=True).start()
        return self._trouble

    def _is_due(self) -> bool:
        with self._lock:
            now = time.monotonic()
            is_due = self._asked_at is None or now - self._asked_at >= AGAIN_SECONDS
            if is_due:
                self._asked_at = now
            return is_due

    def _ask(self) -> None:
        try:
            wakeups.server_info(self.settings)
        except Unreachable as error:
            self._trouble = str(error)
        else:
            self._trouble = None
