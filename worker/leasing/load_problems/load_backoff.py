"""Load backoff decides when a pipeline that failed to load is tried again. Pure; times are seconds of any one clock."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from random import Random

from models import backoff

INITIAL_SECONDS, MAX_SECONDS = 2.0, 30.0
# An attempt keeps the process from its other pipelines, so the pause is at least this many times as long.
PAUSE_TO_LOAD_RATIO = 10


@dataclass(frozen=True, slots=True)
class RetryState:
    """How often a load failed in a row, and the time of the next attempt."""

    attempts: int
    retry_at: float
    message: str = ""


class LoadBackoff:
    """The pauses of a process' targets: doubling from 2 s to 30 s, with jitter, without a last attempt."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._retry_states: dict[Hashable, RetryState] = {}

    def is_due(self, target: Hashable, now: float) -> bool:
        """Whether the target may be tried now."""
        return now >= self.due_at(target)

    def due_at(self, target: Hashable) -> float:
        """Return when the target may be tried; minus infinity without a failure."""
        return self._retry_states[target].retry_at if target in self._retry_states else -math.inf

    def record_failure(
        self, target: Hashable, message: str, now: float, load_seconds: float
    ) -> tuple[int, float, bool]:
        """Record a failed attempt; returns the attempts, the pause, and whether the message is new.

        load_seconds: how long the attempt took.
        """
        previous = self._retry_states.get(target, RetryState(0, now))
        attempts = previous.attempts + 1
        jitter = backoff.backoff_seconds(attempts, INITIAL_SECONDS, MAX_SECONDS, self._rng)
        pause = max(jitter / 2 + self.max_pause_seconds(attempts) / 2, PAUSE_TO_LOAD_RATIO * load_seconds)
        self._retry_states[target] = RetryState(attempts, now + pause, message)
        return attempts, pause, message != previous.message

    def record_success(self, target: Hashable) -> None:
        """Forget earlier failures."""
        self._retry_states.pop(target, None)

    def restore(self, target: Hashable, attempts: int, retry_at: float) -> None:
        """Continue from the failures of a previous process."""
        self._retry_states[target] = RetryState(attempts, retry_at)

    @staticmethod
    def max_pause_seconds(attempts: int) -> float:
        """Return the longest pause after so many attempts, in seconds, except for slow loads."""
        return backoff.max_backoff_seconds(attempts, INITIAL_SECONDS, MAX_SECONDS)
