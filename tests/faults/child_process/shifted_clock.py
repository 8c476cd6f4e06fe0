"""A process whose time of day is hours off; its monotonic clock is right."""

import datetime
import time


def shift_clock(hours: float) -> None:
    """Move this process's time of day ahead by these hours."""
    real_time, real_time_ns, seconds = time.time, time.time_ns, hours * 3600
    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_time_ns() + int(seconds * 1e9)

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> datetime.datetime:
            return cls.now(datetime.UTC).replace(tzinfo=None)

    datetime.datetime = Shifted  # type: ignore[misc]
