"""Failpoints let a test kill, fail or stop this process at chosen places, to verify that no work is lost.

`BATCHMILL_FAILPOINT` names them, separated by commas: `POINT:kill`, `POINT:raise`, `POINT:pause` (until the process
receives SIGUSR1), `POINT:pause:FILE` (which first makes the file, so that others see the pause), `POINT:sleep`
(forever) or `POINT:sleep:SECONDS`. The suffix `@N` limits the failure to the N-th hit: `after_commit:kill@3`.
"""

import itertools
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from models.errors import SettingsError

ENVIRONMENT_VARIABLE = "BATCHMILL_FAILPOINT"

FAILPOINTS = (
    "before_claim",
    "after_claim",  # the leases are committed, and this process does not know yet
    "mid_forward",
    "before_commit",  # the results are sent to the database, and not committed
    "after_commit",  # the results are committed, and this process does not know yet
    "in_maintenance",  # the task is claimed, and has not started
    "before_release",  # the slices are about to be released
    "after_ingest_chunk",  # a submission's jobs are committed, and perhaps more follow
    "after_upload",  # the bytes of a file are stored, and it has no row
    "after_open_batch",  # a batch that will be read later is committed
    "before_intake",  # such a batch is held, and its rows are about to be read
    "after_intake",  # its rows are accepted, and it does not record that they were read
    "during_planning",  # a schedule's runs are planned, and not committed
    "after_planning",  # the runs are committed, and nothing is read yet
    "during_opening",  # the batch of a run that follows another is inserted, and not committed
    "after_opening",  # the batch is committed, and nothing is read yet
    "before_read_source",  # a run is held, and its source is about to be read
    "after_read_source",  # the batch is accepted, and the run does not record it yet
    "before_finish_run",  # a run's results are collected, and its end is not written
    "before_commit_run",  # a run's table is written, and not committed
    "after_commit_run",  # the run has ended, and no event was delivered
)
FOREVER_SECONDS = 86_400.0
PAUSE_POLL_SECONDS = 0.05
FAILPOINT_PATTERN = re.compile(
    r"(?P<point>[a-z_]+):(?P<action>kill|raise|pause(:(?P<file>[^@]+))?|sleep(:(?P<seconds>\d+(\.\d+)?))?)"
    r"(@(?P<passing>\d+))?"
)


class FailpointError(RuntimeError):
    """The exception that the action `raise` raises."""


@dataclass(frozen=True, slots=True)
class ArmedFailpoint:
    """A failpoint that the environment has armed.

    action: the call that makes the process fail
    fires_at_hit: the hit at which it fails, counted from 1, None = every hit
    hit_counter: numbers the hits
    """

    action: Callable[[], object]
    fires_at_hit: int | None
    hit_counter: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def hit(self) -> None:
        """Count one hit and act if this is the chosen one."""
        if self.fires_at_hit in (None, next(self.hit_counter)):
            self.action()


_armed: dict[str, ArmedFailpoint] = {}
_resumed = threading.Event()


def failpoint(point: str) -> None:
    """Act as the environment demands at this point; no-op outside tests."""
    if _armed and (failure := _armed.get(point)):
        failure.hit()


def arm(spec: str | None = None) -> None:
    """Arm the failpoints that `spec` or the environment names; raises SettingsError if one is unknown."""
    words = os.environ.get(ENVIRONMENT_VARIABLE, "") if spec is None else spec
    failpoints = dict(map(_parse_failpoint, filter(None, (word.strip() for word in words.split(",")))))
    _armed.clear()
    _armed.update(failpoints)
    if ":pause" in words:
        signal.signal(signal.SIGUSR1, lambda *_: _resumed.set())


def _parse_failpoint(spec: str) -> tuple[str, ArmedFailpoint]:
    match = FAILPOINT_PATTERN.fullmatch(spec)
    if match is None or match["point"] not in FAILPOINTS or match["passing"] == "0":
        points = ", ".join(FAILPOINTS)
        raise SettingsError(
            f"{ENVIRONMENT_VARIABLE} says {spec[:80]!r}, not POINT:kill|raise|pause[:FILE]|sleep[:SECONDS][@N] "
            f"with one of {points}"
        )
    passing = int(match["passing"]) if match["passing"] else None
    return match["point"], ArmedFailpoint(_action_for(match), passing)


def _action_for(match: re.Match[str]) -> Callable[[], object]:
    action, seconds = match["action"], float(match["seconds"] or math.inf)
    if action.startswith("sleep"):
        return lambda: time.sleep(min(seconds, FOREVER_SECONDS))
    if action.startswith("pause"):
        return partial(_pause, match["file"])
    return _raise_failure if action == "raise" else lambda: os.kill(os.getpid(), signal.SIGKILL)


def _pause(file: str | None) -> None:
    if file is not None:
        Path(file).touch()
    while not _resumed.wait(PAUSE_POLL_SECONDS):  # the signal may have reached another thread than this one
        pass


def _raise_failure() -> None:
    raise FailpointError("as the environment says")
