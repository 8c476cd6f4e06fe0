"""Failpoints: places where a test has this process die, fail or stand still, to see that nothing is lost by it.

`BATCHMILL_FAILPOINT` names them, separated by commas: `POINT:kill`, `POINT:raise`, `POINT:sleep` (for good) or
`POINT:sleep:SECONDS`. With `@N` behind it, it happens at the N-th passing alone: `after_commit:kill@3`.
"""

import itertools
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from models.errors import SettingsError

ENVIRONMENT_VARIABLE = "BATCHMILL_FAILPOINT"

FAILPOINTS = (
    "before_claim",
    "after_claim",  # leased, and nobody but SQL knows of it
    "mid_forward",
    "before_commit",  # computed, and sent to the database
    "after_commit",  # written, and this process has not heard of it
    "in_duty",  # the turn is taken, and nothing done
    "in_release",  # about to give slices back
    "in_plan",  # a schedule's slots are decided, and not committed
    "after_plan",  # they are, and nothing is read yet
    "in_read",  # a run is held, and its source about to be read
    "after_read",  # its batch is accepted, and the run does not say so
    "in_finish",  # a run's results are gathered, and its end is not written
    "before_mark",  # its table is written, and not committed
    "after_mark",  # the run has ended, and nobody was told
)
FOREVER_SECONDS = 86_400.0
FAILPOINT_PATTERN = re.compile(
    r"(?P<point>[a-z_]+):(?P<action>kill|raise|sleep(:(?P<seconds>\d+(\.\d+)?))?)(@(?P<passing>\d+))?"
)


class FailpointError(RuntimeError):
    """What `raise` raises."""


@dataclass(frozen=True, slots=True)
class ArmedFailpoint:
    """What happens at one point; `passing` is when, counted from 1, or None for each time."""

    action: Callable[[], object]
    fires_at_hit: int | None
    hit_counter: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def hit(self) -> None:
        """The process comes by."""
        if self.fires_at_hit in (None, next(self.hit_counter)):
            self.action()


_armed: dict[str, ArmedFailpoint] = {}


def failpoint(point: str) -> None:
    """Do here what the environment says, which is nothing but in tests."""
    if _armed and (failure := _armed.get(point)):
        failure.hit()


def arm(spec: str | None = None) -> None:
    """Read the environment, once for each process; raises SettingsError where it names no such thing."""
    words = os.environ.get(ENVIRONMENT_VARIABLE, "") if spec is None else spec
    found = dict(map(_parse_failpoint, filter(None, (word.strip() for word in words.split(",")))))
    _armed.clear()
    _armed.update(found)


def _parse_failpoint(spec: str) -> tuple[str, ArmedFailpoint]:
    read = FAILPOINT_PATTERN.fullmatch(spec)
    if read is None or read["point"] not in FAILPOINTS or read["passing"] == "0":
        points = ", ".join(FAILPOINTS)
        raise SettingsError(
            f"{ENVIRONMENT_VARIABLE} says {spec[:80]!r}, not POINT:kill|raise|sleep[:SECONDS][@N] with one of {points}"
        )
    passing = int(read["passing"]) if read["passing"] else None
    return read["point"], ArmedFailpoint(_action_for(read["action"], float(read["seconds"] or math.inf)), passing)


def _action_for(action: str, seconds: float) -> Callable[[], object]:
    if action.startswith("sleep"):
        return lambda: time.sleep(min(seconds, FOREVER_SECONDS))
    return _raise_failure if action == "raise" else lambda: os.kill(os.getpid(), signal.SIGKILL)


def _raise_failure() -> None:
    raise FailpointError("as the environment says")
