"""Estimates of a batch's current rate and remaining time, with confidence bounds. Pure."""

import math
import statistics
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

MAX_SAMPLE_AGE_SECONDS = 120.0  # older samples may reflect another rate
SEGMENTS = 8  # of that span, whose rates are compared; results land in bursts, so adjacent samples vary too much
MIN_OBSERVED_SECONDS = 4.0
CONFIDENCE_SIGMAS = 2.0  # standard errors to either side, which cover about 95 %


@dataclass(frozen=True, slots=True)
class Eta:
    """A batch's current rate, and the seconds until all its jobs have ended: likely, earliest and latest."""

    jobs_per_second: float
    seconds: float
    earliest: float
    latest: float | None  # None: the rate varies too much for an upper bound

    def as_dict(self) -> dict[str, float | None]:
        """Return the JSON object that `batchmill watch --json` prints."""
        rounded = {name: round(getattr(self, name), 1) for name in ("jobs_per_second", "seconds", "earliest")}
        return {**rounded, "latest": None if self.latest is None else round(self.latest, 1)}


class EtaEstimator:
    """Estimates the remaining time from the progress of the last two minutes."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def record(self, now: float, ended_jobs: int) -> None:
        """Record how many jobs have ended at `now`, in seconds of any clock, such as the batch's working time."""
        if self._samples and ended_jobs < self._samples[-1][1]:  # a retry withdrew results
            self._samples.clear()
        if self._samples and now <= self._samples[-1][0]:  # the clock stands still while nobody works
            now = self._samples.pop()[0]
        self._samples.append((now, ended_jobs))
        while now - self._samples[0][0] > MAX_SAMPLE_AGE_SECONDS:
            self._samples.popleft()

    def estimate(self, unanswered_jobs: int) -> Eta | None:
        """Estimate how long the unanswered jobs will take; None with too few samples.

        The rate is that of the whole span. The bounds come from the standard error of its segments' rates.
        """
        if len(self._samples) <= SEGMENTS or self._samples[-1][0] - self._samples[0][0] < MIN_OBSERVED_SECONDS:
            return None
        rate = _jobs_per_second(self._samples[0], self._samples[-1])
        if rate <= 0:
            return None
        step = (len(self._samples) - 1) / SEGMENTS
        bounds = [self._samples[round(step * segment)] for segment in range(SEGMENTS + 1)]
        error = statistics.stdev(_jobs_per_second(*segment) for segment in pairwise(bounds)) / math.sqrt(SEGMENTS)
        min_rate = rate - CONFIDENCE_SIGMAS * error
        latest = unanswered_jobs / min_rate if min_rate > 0 else None
        return Eta(rate, unanswered_jobs / rate, unanswered_jobs / (rate + CONFIDENCE_SIGMAS * error), latest)


def _jobs_per_second(first: tuple[float, int], last: tuple[float, int]) -> float:
    return (last[1] - first[1]) / max(last[0] - first[0], 1e-3)
