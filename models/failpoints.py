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

VARIABLE = "BATCHMILL_FAILPOINT"

POINTS = (
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
FOR_GOOD_SECONDS = 86_400.0
WORDS = re.compile(r"(?P<point>[a-z_]+):(?P<action>kill|raise|sleep(:(?P<seconds>\d+(\.\d+)?))?)(@(?P<passing>\d+))?")


class Failed(RuntimeError):
    """What `raise` raises."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What happens at one point; `passing` is when, counted from 1, or None for each time."""

    act: Callable[[], object]
    passing: int | None
    passings: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def passed(self) -> None:
        """The process comes by."""
        if self.passing in (None, next(self.passings)):
            self.act()


_armed: dict[str, Failure] = {}


def failpoint(point: str) -> None:
    """Do here what the environment says, which is nothing but in tests."""
    if _armed and (failure := _armed.get(point)):
        failure.passed()


def arm(said: str | None = None) -> None:
    """Read the environment, once for each process; raises SettingsError where it names no such thing."""
    words = os.environ.get(VARIABLE, "") if said is None else said
    found = dict(map(_failure, filter(None, (word.strip() for word in words.split(",")))))
    _armed.clear()
    _armed.update(found)


def _failure(word: str) -> tuple[str, Failure]:
    read = WORDS.fullmatch(word)
    if read is None or read["point"] not in POINTS or read["passing"] == "0":
        points = ", ".join(POINTS)
        raise SettingsError(
            f"{VARIABLE} says {word[:80]!r}, not POINT:kill|raise|sleep[:SECONDS][@N] with one of {points}"
        )
    passing = int(read["passing"]) if read["passing"] else None
    return read["point"], Failure(_act(read["action"], float(read["seconds"] or math.inf)), passing)


def _act(action: str, seconds: float) -> Callable[[], object]:
    if action.startswith("sleep"):
        return lambda: time.sleep(min(seconds, FOR_GOOD_SECONDS))
    return _fail if action == "raise" else lambda: os.kill(os.getpid(), signal.SIGKILL)


def _fail() -> None:
    raise Failed("as the environment says")
