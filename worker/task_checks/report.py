"""What a check found, as the child process of `batchmill tasks check` prints it."""

import signal
from dataclasses import asdict, dataclass
from typing import Any, Literal

# Has the process write where each of its threads is, without values, to standard error.
STACKS_SIGNAL = signal.SIGUSR1

Outcome = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check.

    message: what was tried, or what the author of the task should change.
    """

    check: str
    outcome: Outcome
    message: str

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON."""
        return asdict(self)


class CheckFailed(Exception):
    """A check found something that the author of the task should change; the message says what."""


class CheckSkipped(Exception):
    """A check does not apply to the task; the message says why."""
