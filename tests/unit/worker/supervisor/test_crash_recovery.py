"""How a worker died: of its own, or of somebody else."""

import os
import signal

import pytest

from models.states import AttemptOutcome
from worker.exit_status import DEVICE_HUNG, FORCED_SHUTDOWN, INTERNAL_ERROR, SCHEMA_OUTDATED
from worker.supervisor.crash_recovery import classify_exit
from worker.supervisor.supervisor import ChildExit


@pytest.mark.parametrize(
    ("status", "starved", "ending"),
    [
        (-signal.SIGKILL, False, AttemptOutcome.KILLED),
        (-signal.SIGKILL, True, AttemptOutcome.CRASHED),
        (-signal.SIGTERM, False, AttemptOutcome.KILLED),
        (-signal.SIGABRT, False, AttemptOutcome.CRASHED),
        (-signal.SIGSEGV, True, AttemptOutcome.CRASHED),
        (DEVICE_HUNG, False, AttemptOutcome.HUNG),
        (INTERNAL_ERROR, False, AttemptOutcome.CRASHED),
        (SCHEMA_OUTDATED, False, AttemptOutcome.KILLED),
        (FORCED_SHUTDOWN, False, AttemptOutcome.KILLED),
        (os.EX_OK, False, AttemptOutcome.KILLED),
        (1, False, AttemptOutcome.KILLED),
    ],
)
def test_is_told_by_the_status(status: int, starved: bool, ending: AttemptOutcome) -> None:
    assert classify_exit(ChildExit("worker", status, starved)) is ending
