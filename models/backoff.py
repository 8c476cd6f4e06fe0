"""Exponential backoff with full jitter. Pure."""

import math
from random import Random

MAX_DOUBLINGS = 32


def backoff_seconds(attempt: int, base_seconds: float, max_seconds: float, rng: Random) -> float:
    """Seconds to wait after so many tries, 1 for the first: full jitter, anything up to base × 2^(tries − 1).

    Full jitter spreads a crowd of retries best: see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return rng.uniform(0.0, max_backoff_seconds(attempt, base_seconds, max_seconds))


def max_backoff_seconds(attempt: int, base_seconds: float, max_seconds: float) -> float:
    """The longest wait after so many tries."""
    return min(max_seconds, math.ldexp(base_seconds, min(max(0, attempt - 1), MAX_DOUBLINGS)))
