"""How many streams one server keeps open: so many that other requests always find a connection."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from models.errors import TooManyRequests

SHARE_OF_ALL, SHARE_OF_KEY = 2, 8  # a half of all connections may be streams, and an eighth those of one key
RETRY_SECONDS = 30.0


class StreamLimit:
    """Counts open streams and requests that wait; used by the event loop alone.

    max_connections: that the server keeps open
    """

    def __init__(self, max_connections: int) -> None:
        self._most, self._most_of_key = max_connections // SHARE_OF_ALL, max_connections // SHARE_OF_KEY
        self._open: Counter[str | None] = Counter()

    def check(self, key_id: str | None) -> None:
        """Raise TooManyRequests if no stream can be opened now.

        key_id: None = the server has no keys
        """
        if key_id is not None and self._open[key_id] >= self._most_of_key:
            raise TooManyRequests(
                f"this key has {self._most_of_key:,} open streams, as many as one may have; close some", RETRY_SECONDS
            )
        if self._open.total() >= self._most:
            raise TooManyRequests(
                f"the server has {self._most:,} open streams, as many as it may have; come again", RETRY_SECONDS
            )

    @contextmanager
    def permit(self, key_id: str | None) -> Iterator[None]:
        """Count a stream while the block runs; raises TooManyRequests at its begin."""
        self.check(key_id)
        self._open[key_id] += 1
        try:
            yield
        finally:
            self._open[key_id] -= 1
            if not self._open[key_id]:
                del self._open[key_id]
