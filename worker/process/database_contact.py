"""The database contact of a process: since when it has reached the database without a gap."""

import time
from collections.abc import Callable


class DatabaseContact:
    """Measures for how long this process has reached the database without a gap.

    After an outage, or after the machine was suspended, the heartbeats of all workers are old. Their silence says
    nothing until this process has waited for them with the database at hand.

    max_gap_seconds: a longer time without contact is a gap.
    """

    def __init__(
        self,
        max_gap_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._max_gap_seconds = max_gap_seconds
        self._monotonic, self._time_of_day = monotonic, time_of_day
        self._started_at = 0.0  # by the monotonic clock
        self._last: tuple[float, float] | None = None  # contact, by both clocks

    def record(self) -> None:
        """Record that the database has just answered."""
        if self._has_gap():
            self._started_at = self._monotonic()
        self._last = (self._monotonic(), self._time_of_day())

    def seconds(self) -> float:
        """Return for how long there has been contact; 0 without any, or after a gap."""
        return 0.0 if self._has_gap() else self._monotonic() - self._started_at

    def _has_gap(self) -> bool:
        if self._last is None:
            return True
        monotonic, time_of_day = self._last
        # The monotonic clock stands still while the machine is suspended; the other one may be set.
        gap = max(self._monotonic() - monotonic, self._time_of_day() - time_of_day)
        return gap > self._max_gap_seconds
