"""A process whose clock is wrong: what Python tells of the time of day is hours off. Its monotonic clock is right."""

import datetime
import time


def shift_clock(hours: float) -> None:
    """From now on be so many hours ahead."""
    true, seconds = time.time, hours * 3600
    true_ns = time.time_ns
    time.time = lambda: true() + seconds
    time.time_ns = lambda: true_ns() + int(seconds * 1e9)

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> datetime.datetime:
            return cls.now(datetime.UTC).replace(tzinfo=None)

    datetime.datetime = Shifted  # type: ignore[misc]
