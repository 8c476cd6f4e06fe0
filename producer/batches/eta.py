"""Forecasts: how fast a batch goes at present, and how long what is open will take, with how sure that is. Pure."""

import math
import statistics
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

MAX_SAMPLE_AGE_SECONDS = 120.0  # older looks tell of another pace
SEGMENTS = 8  # of that span, whose paces are compared: results land in bursts, so neighbouring looks say little
MIN_OBSERVED_SECONDS = 4.0
CONFIDENCE_SIGMAS = 2.0  # standard errors to either side: about 95 of 100 times the pace is within


@dataclass(frozen=True, slots=True)
class Eta:
    """Jobs per second, and in how many seconds all will have ended: likely, at the soonest and at the latest."""

    jobs_per_second: float
    seconds: float
    soonest: float
    latest: float | None  # None: the pace varies too much to tell

    def as_dict(self) -> dict[str, float | None]:
        """As `batchmill watch --json` prints it."""
        rounded = {name: round(getattr(self, name), 1) for name in ("jobs_per_second", "seconds", "soonest")}
        return {**rounded, "latest": None if self.latest is None else round(self.latest, 1)}


class EtaEstimator:
    """Notes how many jobs have ended at which moment, and forecasts from the last two minutes of that."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def record(self, now: float, ended_jobs: int) -> None:
        """So many jobs have ended at this moment, in seconds of any clock that only goes forward."""
        if self._samples and ended_jobs < self._samples[-1][1]:  # a replay took results back
            self._samples.clear()
        self._samples.append((now, ended_jobs))
        while now - self._samples[0][0] > MAX_SAMPLE_AGE_SECONDS:
            self._samples.popleft()

    def estimate(self, unanswered_jobs: int) -> Eta | None:
        """How long so many more jobs will take; None where too little was seen to tell.

        The pace is that of the whole span; how sure it is comes from the standard error of its parts' paces.
        """
        if len(self._samples) <= SEGMENTS or self._samples[-1][0] - self._samples[0][0] < MIN_OBSERVED_SECONDS:
            return None
        pace = _jobs_per_second(self._samples[0], self._samples[-1])
        if pace <= 0:
            return None
        step = (len(self._samples) - 1) / SEGMENTS
        ends = [self._samples[round(step * part)] for part in range(SEGMENTS + 1)]
        error = statistics.stdev(_jobs_per_second(*part) for part in pairwise(ends)) / math.sqrt(SEGMENTS)
        slowest = pace - CONFIDENCE_SIGMAS * error
        latest = unanswered_jobs / slowest if slowest > 0 else None
        return Eta(pace, unanswered_jobs / pace, unanswered_jobs / (pace + CONFIDENCE_SIGMAS * error), latest)


def _jobs_per_second(first: tuple[float, int], last: tuple[float, int]) -> float:
    return (last[1] - first[1]) / max(last[0] - first[0], 1e-3)
