"""A claim sizer measures how fast this process answers jobs, and so how many to claim at once."""

from threading import Lock

# The share of the newest claim in the average: a change of speed shows after two or three claims.
NEWEST_WEIGHT = 0.5

# The most jobs of one claim. A GPU answers tens of thousands a second, so that a small claim lasts only a moment.
MAX_CLAIM_JOBS, MAX_GPU_CLAIM_JOBS = 4_096, 16_384


def default_max_jobs(device_name: str) -> int:
    """Return the most jobs of one claim where no setting says otherwise; `cpu`, or the name of a GPU."""
    return MAX_CLAIM_JOBS if device_name == "cpu" else MAX_GPU_CLAIM_JOBS


class ClaimSizer:
    """Sizes claims so that each is about `target_seconds` of work.

    That is enough to sort by length, and little enough to share a batch with other workers.
    """

    def __init__(self, target_seconds: float, max_jobs: int) -> None:
        self._target_seconds = target_seconds
        self._max_jobs = max_jobs
        self._lock = Lock()
        self._jobs_per_second: float | None = None

    def record(self, jobs: int, seconds: float) -> None:
        """Record that a claim of this many jobs took this long."""
        if jobs <= 0 or seconds <= 0:
            return
        with self._lock:
            newest = jobs / seconds
            average = self._jobs_per_second
            self._jobs_per_second = (
                newest if average is None else NEWEST_WEIGHT * newest + (1 - NEWEST_WEIGHT) * average
            )

    def jobs_to_claim(self) -> int:
        """Return how many jobs to claim: 1 (so one slice, the least) while the speed is unknown."""
        with self._lock:
            if self._jobs_per_second is None:
                return 1
            return max(1, min(self._max_jobs, int(self._jobs_per_second * self._target_seconds)))
