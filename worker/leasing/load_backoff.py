"""Load backoff: when a pipeline that could not be loaded is tried again. Pure; moments are seconds of any one clock."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from random import Random

from models import backoff

FIRST_SECONDS, LONGEST_SECONDS = 2.0, 30.0
# A try keeps the process from its other pipelines, so the pause is so many times as long as the try took.
PAUSE_SHARE = 10


@dataclass(frozen=True, slots=True)
class Rest:
    """How often a load failed, one time after another, and until when it is not tried."""

    tries: int
    until: float
    message: str = ""


class LoadBackoff:
    """The rests of a process' targets: doubling from 2 s to half a minute, with jitter, and never ending."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._rests: dict[Hashable, Rest] = {}

    def is_due(self, target: Hashable, now: float) -> bool:
        """Whether the target may be tried."""
        return now >= self.due_at(target)

    def due_at(self, target: Hashable) -> float:
        """From when on the target may be tried; one that never failed always may."""
        return self._rests[target].until if target in self._rests else -math.inf

    def failed(self, target: Hashable, message: str, now: float, seconds: float) -> tuple[int, float, bool]:
        """Note a try that took so many seconds; returns the tries, the pause, and whether the message is a new one."""
        before = self._rests.get(target, Rest(0, now))
        tries = before.tries + 1
        jitter = backoff.backoff(tries, FIRST_SECONDS, LONGEST_SECONDS, self._rng)
        pause = max(jitter / 2 + self.bound(tries) / 2, PAUSE_SHARE * seconds)
        self._rests[target] = Rest(tries, now + pause, message)
        return tries, pause, message != before.message

    def succeeded(self, target: Hashable) -> None:
        """Forget what failed before."""
        self._rests.pop(target, None)

    def resume(self, target: Hashable, tries: int, until: float) -> None:
        """Go on from what a process before this one met."""
        self._rests[target] = Rest(tries, until)

    @staticmethod
    def bound(tries: int) -> float:
        """The longest pause after so many tries, in seconds, but for loads that take long."""
        return backoff.backoff_bound(tries, FIRST_SECONDS, LONGEST_SECONDS)
