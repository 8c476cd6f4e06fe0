"""The supervisor: its children start, start again, and end with it, however it ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from tests.servers import WAIT_TIMEOUT_SECONDS, has_ended, wait_until
from worker.supervisor import supervisor
from worker.supervisor.supervisor import MAX_RESTART_DELAY_SECONDS, Child, ChildExit, ChildSpec, restart_delay

ROOT = Path(__file__).parents[3]

# A worker in miniature: leaves a note of its start, ends by SIGTERM or when its parent is gone, and notes which.
CHILD = """
import os, pathlib, signal, sys

folder, how = pathlib.Path(sys.argv[1]), sys.argv[2]
mine = folder / f"{how}-{os.getpid()}"

def end(number, frame):
    if how != "stubborn":
        (folder / f"ended-{os.getpid()}").touch()
        sys.exit(0)

signal.signal(signal.SIGTERM, end)
mine.touch()
if how == "short-lived":
    sys.exit(3)
while os.read(0, 1024):
    pass
(folder / f"orphaned-{os.getpid()}").touch()
"""

# Supervises the children named on its command line, with short pauses, and says how it ended.
SUPERVISOR = """
import pathlib, sys
from worker.supervisor import supervisor
from worker.supervisor.supervisor import ChildSpec, supervise

supervisor.FIRST_RESTART_DELAY_SECONDS = supervisor.POLL_SECONDS = 0.01
folder = sys.argv[1]
groups = [[ChildSpec(how, "tiny_child", (folder, how)) for how in group.split(",")] for group in sys.argv[3:]]
sys.exit(supervise(groups, grace_seconds=float(sys.argv[2]), is_ready=(pathlib.Path(folder) / "ready").exists))
"""


class Notes:
    """What the children left in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pids(self, kind: str) -> list[int]:
        return sorted(int(path.name.rpartition("-")[2]) for path in self.folder.glob(f"{kind}-*"))

    def until(self, kind: str, count: int = 1) -> list[int]:
        wait_until(lambda: len(self.pids(kind)) >= count, f"{count} {kind}")
        return self.pids(kind)


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    folder = tmp_path / "notes"
    folder.mkdir()
    return Notes(folder)


@pytest.fixture(autouse=True)
def tiny_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's module, where children find it."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "tiny_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", f"{modules}{os.pathsep}{ROOT}")


@pytest.fixture
def supervise(notes: Notes) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts supervisors in processes of their own; none of them, nor of their children, outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def supervise(*groups: str, grace_seconds: float = WAIT_TIMEOUT_SECONDS) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SUPERVISOR, str(notes.folder), str(grace_seconds), *groups]
        started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        return started[-1]

    yield supervise
    for process in started:
        process.kill()
        process.wait()
    for note in notes.folder.iterdir():
        if pid := note.name.rpartition("-")[2]:
            end(pid)


def end(pid: str) -> None:
    try:
        process = psutil.Process(int(pid))
        if "tiny_child" in process.cmdline():
            process.kill()
    except (ValueError, psutil.NoSuchProcess):
        pass


def have_ended(*pids: int) -> bool:
    def ended(pid: int) -> bool:
        try:
            return has_ended(psutil.Process(pid))
        except psutil.NoSuchProcess:
            return True

    return all(map(ended, pids))


class TestRestartDelay:
    def test_doubles_up_to_a_limit(self) -> None:
        assert [restart_delay(crashes) for crashes in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]

    def test_without_a_crash_is_none(self) -> None:
        assert restart_delay(0) == 0

    def test_is_a_number_however_many_crashes_there_were(self) -> None:
        assert restart_delay(100_000) == MAX_RESTART_DELAY_SECONDS


class TestChild:
    @pytest.fixture
    def children(self) -> Iterator[list[Child]]:
        children: list[Child] = []
        yield children
        for child in children:
            child.send_signal(signal.SIGKILL)
            child.wait_or_kill(0.0)

    def child(self, children: list[Child], notes: Notes, how: str) -> Child:
        children.append(Child(ChildSpec(how, "tiny_child", (str(notes.folder), how))))
        return children[-1]

    def test_starts_when_it_is_due(self, children: list[Child], notes: Notes) -> None:
        child = self.child(children, notes, "steady")
        child.next_start_at = 10.0

        child.run_once(9.9)
        assert child.process is None

        child.run_once(10.0)
        assert child.process is not None
        assert notes.until("steady") == [child.process.pid]

    def test_is_started_once(self, children: list[Child], notes: Notes) -> None:
        child = self.child(children, notes, "steady")
        child.run_once(0.0)
        first = child.process

        child.run_once(1.0)

        assert child.process is first

    def test_that_refuses_its_settings_is_not_started_again_if_the_others_can_do_without(self, notes: Notes) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        descriptors = (listener.fileno(),)
        spec = ChildSpec(
            "server", "batchmill", ("serve", "--no-such-option"), may_be_refused=True, descriptors=descriptors
        )
        child = Child(spec)
        child.run_once(0.0)
        assert child.process is not None
        child.process.wait(WAIT_TIMEOUT_SECONDS)

        with capture_logs() as lines:
            child.run_once(1.0)
        child.run_once(1e9)

        assert child.process is None
        assert [line["event"] for line in lines] == ["child.refused"]
        with listener, pytest.raises(ConnectionRefusedError):  # instead of waiting for nobody
            socket.create_connection(listener.getsockname(), timeout=60)

    def test_that_crashed_is_started_again_after_longer_and_longer_pauses(
        self, children: list[Child], notes: Notes
    ) -> None:
        child = self.child(children, notes, "short-lived")
        now = 0.0
        for crashes, pause in enumerate([1.0, 2.0, 4.0], start=1):
            child.run_once(now)
            assert child.process is not None
            child.process.wait(WAIT_TIMEOUT_SECONDS)

            child.run_once(now)
            assert (child.consecutive_crashes, child.next_start_at) == (crashes, now + pause)
            child.run_once(now + pause - 0.01)
            assert child.process is None, "too early"
            now += pause

        assert len(notes.pids("short-lived")) == 3

    def test_that_ran_for_long_starts_again_as_if_for_the_first_time(self, children: list[Child], notes: Notes) -> None:
        child = self.child(children, notes, "short-lived")
        child.consecutive_crashes = 9
        child.run_once(0.0)
        assert child.process is not None
        child.process.wait(WAIT_TIMEOUT_SECONDS)

        child.run_once(supervisor.HEALTHY_AFTER_SECONDS)

        assert (child.consecutive_crashes, child.next_start_at) == (1, supervisor.HEALTHY_AFTER_SECONDS + 1.0)

    @pytest.mark.parametrize(("number", "level"), [(signal.SIGKILL, "warning"), (signal.SIGTERM, "info")])
    def test_that_was_ended_from_outside_starts_again_at_once(
        self, children: list[Child], notes: Notes, number: signal.Signals, level: str
    ) -> None:
        child = self.child(children, notes, "steady")
        child.consecutive_crashes = 9
        child.run_once(0.0)
        assert child.process is not None
        notes.until("steady")
        child.process.send_signal(number)
        child.process.wait(WAIT_TIMEOUT_SECONDS)

        with capture_logs() as logs:
            child.run_once(1.0)

        assert (child.consecutive_crashes, child.next_start_at) == (0, 1.0)
        assert [(line["event"], line["log_level"]) for line in logs] == [("child.exited", level)]

    def test_with_a_name_gets_another_at_each_start_and_its_exit_is_reported(
        self, children: list[Child], notes: Notes
    ) -> None:
        exits: list[ChildExit] = []
        child = Child(
            ChildSpec("short-lived", "tiny_child", (str(notes.folder), "short-lived"), reports_exit=True), exits.append
        )
        children.append(child)
        names = []
        for now in (0.0, 100.0):
            child.run_once(now)
            names.append(child.worker_id)
            assert child.process is not None
            status = child.process.wait(WAIT_TIMEOUT_SECONDS)
            child.run_once(now)

        assert [(child_exit.worker_id, child_exit.exit_status) for child_exit in exits] == [
            (name, status) for name in names
        ]
        assert len(set(names)) == 2

    def test_past_the_deadline_is_killed(self, children: list[Child], notes: Notes) -> None:
        child = self.child(children, notes, "stubborn")
        child.run_once(0.0)
        [pid] = notes.until("stubborn")
        child.send_signal()

        child.wait_or_kill(0.0)

        assert have_ended(pid)
        assert child.process is None

    def test_that_never_started_needs_no_end(self, children: list[Child], notes: Notes) -> None:
        child = self.child(children, notes, "steady")

        child.send_signal()
        child.wait_or_kill(0.0)


class TestSupervise:
    def test_keeps_a_crashing_child_running(
        self, supervise: Callable[..., subprocess.Popen[bytes]], notes: Notes
    ) -> None:
        process = supervise("short-lived,steady")

        notes.until("short-lived", 3)

        assert len(notes.until("steady")) == 1, "its neighbour is left alone"
        assert process.poll() is None

    def test_brings_back_a_child_that_was_killed(
        self, supervise: Callable[..., subprocess.Popen[bytes]], notes: Notes
    ) -> None:
        supervise("steady")
        [first] = notes.until("steady")

        os.kill(first, signal.SIGKILL)

        assert len(notes.until("steady", 2)) == 2

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
    def test_ends_its_children_in_good_order(
        self, supervise: Callable[..., subprocess.Popen[bytes]], notes: Notes, number: signal.Signals, status: int
    ) -> None:
        process = supervise("steady,steady")
        pids = notes.until("steady", 2)

        process.send_signal(number)

        assert process.wait(WAIT_TIMEOUT_SECONDS) == status
        assert notes.pids("ended") == pids
        assert have_ended(*pids)

    def test_kills_a_child_that_will_not_end(
        self, supervise: Callable[..., subprocess.Popen[bytes]], notes: Notes
    ) -> None:
        process = supervise("stubborn,steady", grace_seconds=0.2)
        [stubborn], [steady] = notes.until("stubborn"), notes.until("steady")

        process.send_signal(signal.SIGTERM)

        assert process.wait(WAIT_TIMEOUT_SECONDS) == 0
        assert have_ended(stubborn, steady)

    def test_takes_its_children_along_when_it_is_killed(
        self, supervise: Callable[..., subprocess.Popen[bytes]], notes: Notes
    ) -> None:
        process = supervise("steady,steady")
        pids = notes.until("steady", 2)

        process.kill()

        wait_until(lambda: have_ended(*pids), "the children to end")
        assert notes.pids("orphaned") == pids

    def test_starts_a_later_group_only_when_things_are_ready(
        self, supervise: Callable[..., subprocess.Popen[bytes]], notes: Notes
    ) -> None:
        supervise("short-lived", "steady")
        notes.until("short-lived", 3)  # many rounds have gone by
        assert notes.pids("steady") == []

        (notes.folder / "ready").touch()

        notes.until("steady")

    def test_shields_its_children_from_a_terminal_s_ctrl_c(
        self, supervise: Callable[..., subprocess.Popen[bytes]], notes: Notes
    ) -> None:
        process = supervise("steady")
        [pid] = notes.until("steady")

        assert os.getsid(pid) != os.getsid(process.pid)


@pytest.mark.parametrize(("own", "expected"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_children_of_cuda_sum_in_a_fixed_workspace_unless_the_user_says_otherwise(
    own: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments: list[dict[str, str]] = []

    class Recorded:
        pid = 1

        def __init__(self, _command: object, *, env: dict[str, str], **_options: object) -> None:
            environments.append(env)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if own is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", own)

    Child(ChildSpec("worker", "nowhere")).run_once(0.0)

    assert [environment["CUBLAS_WORKSPACE_CONFIG"] for environment in environments] == [expected]
