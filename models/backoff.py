"""TODO."""

import math
from random import Random

MOST_DOUBLINGS = 32


def backoff(tries: int, base_seconds: float, longest_seconds: float, rng: Random) -> float:
    """Seconds to wait after so many tries, 1 for the first: full jitter, anything up to base × 2^(tries − 1).

    Full jitter spreads a crowd of retries best: see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return rng.uniform(0.0, backoff_bound(tries, base_seconds, longest_seconds))


def backoff_bound(tries: int, base_seconds: float, longest_seconds: float) -> float:
    """The longest wait after so many tries."""
    return min(longest_seconds, math.ldexp(base_seconds, min(max(0, tries - 1), MOST_DOUBLINGS)))
