"""Failpoints do nothing unless they are named, and then what is said, when it is said."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import SettingsError
from models.processes import failpoints
from models.processes.failpoints import ENVIRONMENT_VARIABLE, FAILPOINTS, FailpointError, failpoint


@pytest.fixture(autouse=True)
def unarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_nothing_happens_without_the_environment() -> None:
    failpoints.arm()

    for point in FAILPOINTS:
        failpoint(point)


def test_the_environment_names_a_point_and_what_happens_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, " after_claim:raise , in_maintenance:sleep:0.001")
    failpoints.arm()

    failpoint("before_claim")
    failpoint("in_maintenance")
    for _ in range(2):
        with pytest.raises(FailpointError):
            failpoint("after_claim")


def test_a_pause_makes_a_file_and_ends_with_a_signal(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        failpoints.arm(f"after_claim:pause:{tmp_path}/paused@1, before_claim:pause")
        os.kill(os.getpid(), signal.SIGUSR1)  # also if it comes before the pause

        failpoint("after_claim")
        failpoint("before_claim")

        assert [file.name for file in tmp_path.iterdir()] == ["paused"]
    finally:
        signal.signal(signal.SIGUSR1, before)
        failpoints._resumed.clear()


def test_a_number_names_the_one_passing() -> None:
    failpoints.arm("after_commit:raise@2")

    failpoint("after_commit")
    with pytest.raises(FailpointError):
        failpoint("after_commit")
    failpoint("after_commit")


@pytest.mark.parametrize(
    "said",
    ["nowhere:kill", "in_maintenance", "in_maintenance:explode", "in_maintenance:kill@0", "in_maintenance:sleep:x"],
)
def test_what_makes_no_sense_is_refused(said: str) -> None:
    with pytest.raises(SettingsError, match=rf"{ENVIRONMENT_VARIABLE} says '{said}', not POINT:kill"):
        failpoints.arm(said)
