"""Pace: how fast this process answers jobs, and so how many are worth claiming at once."""

from threading import Lock

# The share of the newest window in the average: a change of pace shows after two or three windows.
NEWEST_WEIGHT = 0.5


class ClaimSizer:
    """A claim should hold about `window_seconds` of work: enough to sort, little enough to share with other workers."""

    def __init__(self, target_seconds: float, max_jobs: int) -> None:
        self._target_seconds = target_seconds
        self._max_jobs = max_jobs
        self._lock = Lock()
        self._jobs_per_second: float | None = None

    def record(self, jobs: int, seconds: float) -> None:
        """Note that a window of jobs took the device so long."""
        if jobs <= 0 or seconds <= 0:
            return
        with self._lock:
            seen = jobs / seconds
            known = self._jobs_per_second
            self._jobs_per_second = seen if known is None else NEWEST_WEIGHT * seen + (1 - NEWEST_WEIGHT) * known

    def jobs_to_claim(self) -> int:
        """Jobs to ask for; 1 (which takes the least, one slice) while the pace is unknown."""
        with self._lock:
            if self._jobs_per_second is None:
                return 1
            return max(1, min(self._max_jobs, int(self._jobs_per_second * self._target_seconds)))
