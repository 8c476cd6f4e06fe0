"""Forecasts: how fast a batch goes at present, and how long what is open will take, with how sure that is. Pure."""

import math
import statistics
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

SPAN_SECONDS = 120.0  # older looks tell of another pace
PARTS = 8  # of that span, whose paces are compared: results land in bursts, so neighbouring looks say little
FEWEST_SECONDS = 4.0
SURE = 2.0  # standard errors to either side: about 95 of 100 times the pace is within


@dataclass(frozen=True, slots=True)
class Forecast:
    """Jobs per second, and in how many seconds all will have ended: likely, at the soonest and at the latest."""

    jobs_per_second: float
    seconds: float
    soonest: float
    latest: float | None  # None: the pace varies too much to tell

    def as_dict(self) -> dict[str, float | None]:
        """As `batchmill watch --json` prints it."""
        rounded = {name: round(getattr(self, name), 1) for name in ("jobs_per_second", "seconds", "soonest")}
        return {**rounded, "latest": None if self.latest is None else round(self.latest, 1)}


class Forecaster:
    """Notes how many jobs have ended at which moment, and forecasts from the last two minutes of that."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def note(self, at: float, ended: int) -> None:
        """So many jobs have ended at this moment, in seconds of any clock that only goes forward."""
        if self._looks and ended < self._looks[-1][1]:  # a replay took results back
            self._looks.clear()
        self._looks.append((at, ended))
        while at - self._looks[0][0] > SPAN_SECONDS:
            self._looks.popleft()

    def forecast(self, open_jobs: int) -> Forecast | None:
        """How long so many more jobs will take; None where too little was seen to tell.

        The pace is that of the whole span; how sure it is comes from the standard error of its parts' paces.
        """
        if len(self._looks) <= PARTS or self._looks[-1][0] - self._looks[0][0] < FEWEST_SECONDS:
            return None
        pace = _pace(self._looks[0], self._looks[-1])
        if pace <= 0:
            return None
        step = (len(self._looks) - 1) / PARTS
        ends = [self._looks[round(step * part)] for part in range(PARTS + 1)]
        error = statistics.stdev(_pace(*part) for part in pairwise(ends)) / math.sqrt(PARTS)
        slowest = pace - SURE * error
        latest = open_jobs / slowest if slowest > 0 else None
        return Forecast(pace, open_jobs / pace, open_jobs / (pace + SURE * error), latest)


def _pace(first: tuple[float, int], last: tuple[float, int]) -> float:
    return (last[1] - first[1]) / max(last[0] - first[0], 1e-3)
