"""Exponential backoff with full jitter, as pure functions."""

import math
from random import Random

MAX_DOUBLINGS = 32


def backoff_seconds(attempt: int, base_seconds: float, max_seconds: float, rng: Random) -> float:
    """Draw the seconds to wait after a failed attempt, between 0 and base × 2^(attempt − 1).

    attempt: number of attempts so far, at least 1
    base_seconds: longest wait after the first attempt
    max_seconds: upper bound of every wait
    rng: source of the jitter

    Full jitter spreads many simultaneous retries best; see "Exponential Backoff And Jitter", AWS Architecture Blog,
    2015.
    """
    return rng.uniform(0.0, max_backoff_seconds(attempt, base_seconds, max_seconds))


def max_backoff_seconds(attempt: int, base_seconds: float, max_seconds: float) -> float:
    """The longest possible wait after `attempt` attempts, in seconds."""
    return min(max_seconds, math.ldexp(base_seconds, min(max(0, attempt - 1), MAX_DOUBLINGS)))
