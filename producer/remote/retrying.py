"""When a request to a server is repeated: after failures that time mends, with backoff, and not for ever. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from models.errors import BatchmillError, TooManyJobs, TooManyRequests, Unreachable
from producer.remote.errors import AnswerLost

BASE_SECONDS, FACTOR, MAX_PAUSE_SECONDS = 0.25, 2.0, 8.0
MAX_SECONDS = 60.0  # in which a request is repeated; a server takes less to start again


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often a request is repeated.

    max_seconds: from the first failure on
    repeats_lost: whether a request is repeated that the server may have acted on
    """

    max_seconds: float = MAX_SECONDS
    repeats_lost: bool = True

    def pause(self, error: BatchmillError, failures: int, elapsed: float, random: Callable[[], float]) -> float | None:
        """The seconds to wait before the next try; None = give up.

        failures: how many there were, from 1
        elapsed: seconds since the first
        """
        if isinstance(error, TooManyJobs) or not isinstance(error, TooManyRequests | Unreachable):
            return None
        if not error.retryable or (isinstance(error, AnswerLost) and not self.repeats_lost):
            return None
        seconds = min(MAX_PAUSE_SECONDS, BASE_SECONDS * FACTOR ** min(failures - 1, 10))
        seconds *= 0.5 + random() / 2  # so that many clients do not come at once
        if isinstance(error, TooManyRequests):
            seconds = max(seconds, error.retry_after_seconds)
        return seconds if elapsed + seconds <= self.max_seconds else None


REPEAT = RetryPolicy()
REPEAT_UNSENT = RetryPolicy(repeats_lost=False)
