"""A rate for each API key: a token bucket, kept in the memory of each server."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from models.errors import TooManyRequests

MAX_REMEMBERED_KEYS = 10_000
MAX_BURST_SECONDS = 10.0  # so many seconds' worth of requests may come at once


class RateLimit:
    """Lets each key make so many requests in a minute; threads may share it.

    requests_per_minute: None = any number
    """

    def __init__(self, requests_per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = (requests_per_minute or 0) / 60
        self._most = max(1.0, self._per_second * MAX_BURST_SECONDS)
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens and when, by key id

    def take(self, key_id: str) -> None:
        """Count one request of a key; raises TooManyRequests, with the time until the next one."""
        if not self._per_second:
            return
        now = self._clock()
        with self._lock:
            tokens, counted_at = self._buckets.pop(key_id, (self._most, now))
            tokens = min(self._most, tokens + (now - counted_at) * self._per_second)
            is_over = tokens < 1.0
            self._buckets[key_id] = (tokens if is_over else tokens - 1.0, now)
            if len(self._buckets) > MAX_REMEMBERED_KEYS:
                self._buckets.popitem(last=False)
        if is_over:
            raise TooManyRequests(
                f"this key makes more than {round(60 * self._per_second):,} requests a minute; ask less often, or wait "
                "for the batch with one request",
                (1.0 - tokens) / self._per_second,
            )
