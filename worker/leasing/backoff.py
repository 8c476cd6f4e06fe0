"""Retry: which failures may pass with time, and how long to wait before the next try. Pure."""

import errno
import math
from random import Random

# What an operating system says when it is busy, or when something at the other end of a wire is.
PASSING = frozenset({
    errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED,
    errno.EPIPE, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ESTALE,
    errno.EIO,
})  # fmt: skip

# What CUDA says of a device that somebody else occupies; torch has one class for all that CUDA says.
BUSY_DEVICE = ("devices are busy or unavailable", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")

MOST_DOUBLINGS = 32


def may_pass(error: BaseException) -> bool:
    """Whether the same work may succeed later without anybody changing anything."""
    retryable = getattr(error, "retryable", None)
    if isinstance(retryable, bool):
        return retryable
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if isinstance(error, OSError):
        return error.errno in PASSING
    return isinstance(error, RuntimeError) and any(words in str(error) for words in BUSY_DEVICE)


def backoff(tries: int, base_seconds: float, longest_seconds: float, rng: Random) -> float:
    """Seconds to wait after so many tries, 1 for the first: full jitter, anything up to base × 2^(tries − 1).

    Full jitter spreads a crowd of retries best: see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return rng.uniform(0.0, backoff_bound(tries, base_seconds, longest_seconds))


def backoff_bound(tries: int, base_seconds: float, longest_seconds: float) -> float:
    """The longest wait after so many tries."""
    return min(longest_seconds, math.ldexp(base_seconds, min(max(0, tries - 1), MOST_DOUBLINGS)))
