"""How a worker died: of its own, or of somebody else."""

import os
import signal

import pytest

from models.states import AttemptEnding
from worker.exit_status import AT_ONCE, DEFECT, HUNG, OUTDATED
from worker.supervisor.crash_recovery import how
from worker.supervisor.supervisor import Death


@pytest.mark.parametrize(
    ("status", "starved", "ending"),
    [
        (-signal.SIGKILL, False, AttemptEnding.KILLED),
        (-signal.SIGKILL, True, AttemptEnding.DIED),
        (-signal.SIGTERM, False, AttemptEnding.KILLED),
        (-signal.SIGABRT, False, AttemptEnding.DIED),
        (-signal.SIGSEGV, True, AttemptEnding.DIED),
        (HUNG, False, AttemptEnding.HUNG),
        (DEFECT, False, AttemptEnding.DIED),
        (OUTDATED, False, AttemptEnding.KILLED),
        (AT_ONCE, False, AttemptEnding.KILLED),
        (os.EX_OK, False, AttemptEnding.KILLED),
        (1, False, AttemptEnding.KILLED),
    ],
)
def test_is_told_by_the_status(status: int, starved: bool, ending: AttemptEnding) -> None:
    assert how(Death("worker", status, starved)) is ending
