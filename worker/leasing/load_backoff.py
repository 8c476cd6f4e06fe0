"""Load backoff: when a pipeline that could not be loaded is tried again. Pure; moments are seconds of any one clock."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from random import Random

from models import backoff

INITIAL_SECONDS, MAX_SECONDS = 2.0, 30.0
# A try keeps the process from its other pipelines, so the pause is so many times as long as the try took.
PAUSE_TO_LOAD_RATIO = 10


@dataclass(frozen=True, slots=True)
class RetryState:
    """How often a load failed, one time after another, and until when it is not tried."""

    attempts: int
    retry_at: float
    message: str = ""


class LoadBackoff:
    """The rests of a process' targets: doubling from 2 s to half a minute, with jitter, and never ending."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._retry_states: dict[Hashable, RetryState] = {}

    def is_due(self, target: Hashable, now: float) -> bool:
        """Whether the target may be tried."""
        return now >= self.due_at(target)

    def due_at(self, target: Hashable) -> float:
        """From when on the target may be tried; one that never failed always may."""
        return self._retry_states[target].retry_at if target in self._retry_states else -math.inf

    def record_failure(
        self, target: Hashable, message: str, now: float, load_seconds: float
    ) -> tuple[int, float, bool]:
        """Note a try that took so many seconds; returns the tries, the pause, and whether the message is a new one."""
        before = self._retry_states.get(target, RetryState(0, now))
        tries = before.attempts + 1
        jitter = backoff.backoff_seconds(tries, INITIAL_SECONDS, MAX_SECONDS, self._rng)
        pause = max(jitter / 2 + self.max_pause_seconds(tries) / 2, PAUSE_TO_LOAD_RATIO * load_seconds)
        self._retry_states[target] = RetryState(tries, now + pause, message)
        return tries, pause, message != before.message

    def record_success(self, target: Hashable) -> None:
        """Forget what failed before."""
        self._retry_states.pop(target, None)

    def restore(self, target: Hashable, attempts: int, retry_at: float) -> None:
        """Go on from what a process before this one met."""
        self._retry_states[target] = RetryState(attempts, retry_at)

    @staticmethod
    def max_pause_seconds(attempts: int) -> float:
        """The longest pause after so many tries, in seconds, but for loads that take long."""
        return backoff.max_backoff_seconds(attempts, INITIAL_SECONDS, MAX_SECONDS)
