"""The lock of a home names the process of `batchmill up`, and `batchmill down` ends that process and no other."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

import batchmill
from models.errors import UsageError
from models.processes import holders, home_lock
from models.processes.holders import HolderId

ROOT = Path(batchmill.__file__).parent

# Locks a home as `up` does, until SIGTERM, or until SIGKILL where it ignores SIGTERM.
HOLD = """
import signal, sys
from pathlib import Path
from models.processes.home_lock import lock_home
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else lambda *_: sys.exit(0))
with lock_home(Path(sys.argv[1])):
    print("locked", flush=True)
    while True:
        signal.pause()
"""

Hold = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def hold(batchmill_home: Path) -> Iterator[Hold]:
    """Start a process that holds the lock of this test's home."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(batchmill_home), *words]
        processes.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout
        assert processes[-1].stdout.readline() == "locked\n"
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def down(*options: str) -> Result:
    return CliRunner().invoke(batchmill.cli, ["down", *options])


def write_holder(home: Path, **fields: str | int) -> HolderId:
    """Write a holder id into the lock's file, of this process but for some fields."""
    current = HolderId.parse(holders.new_holder_id())
    assert current is not None
    pid_namespace = replace(current.pid_namespace, host=str(fields.pop("host", current.pid_namespace.host)))
    holder = replace(current, pid_namespace=pid_namespace, **fields)
    (home / home_lock.LOCK_NAME).write_text(str(holder))
    return holder


def test_a_second_up_names_the_first_one_and_down(hold: Hold, batchmill_home: Path) -> None:
    first = hold()

    with pytest.raises(UsageError) as caught, home_lock.lock_home(batchmill_home):
        pass

    assert f"(pid {first.pid}) runs already in {batchmill_home}; end it with: batchmill down" in str(caught.value)


@pytest.mark.parametrize("state", ["running", "paused"])
def test_down_ends_it_and_waits(hold: Hold, state: str) -> None:
    first = hold()
    if state == "paused":
        first.send_signal(signal.SIGSTOP)
        while psutil.Process(first.pid).status() != psutil.STATUS_STOPPED:
            pass

    result = down()

    assert result.exit_code == 0
    assert re.search(rf"stopping `batchmill up` \(pid {first.pid}\) in .*\nstopped after \d+\.\d s", result.stderr)
    assert first.wait(60) == 0
    assert "no `batchmill up` runs in" in down().stderr


def test_a_submit_meanwhile_does_not_ask_for_another_up(hold: Hold, tmp_path: Path) -> None:
    first = hold()
    (tmp_path / "in.jsonl").write_text('"a text"\n')

    result = CliRunner().invoke(batchmill.cli, ["submit", str(tmp_path / "in.jsonl"), "-p", "sample-ner"])

    assert result.exit_code == 0, result.stderr
    assert f"no worker serves sample-ner now: `batchmill up` (pid {first.pid}) is starting its workers" in result.stderr
    [blocker] = batchmill.Client().batch(result.stdout.strip()).find_blockers()
    assert f"(pid {first.pid}) is starting its workers" in blocker.message


def test_down_names_what_does_not_end(hold: Hold) -> None:
    first = hold("stubborn")

    result = down("--timeout", "0.2")

    assert result.exit_code == 124
    assert f"(pid {first.pid}) has not ended in 0.2 s" in result.stderr
    assert first.poll() is None


@pytest.mark.parametrize("remains", ["no home", "no file", "empty", "of another process", "nonsense"])
def test_down_ends_nothing_where_nothing_runs(batchmill_home: Path, remains: str) -> None:
    if remains != "no home":
        batchmill_home.mkdir()
    if remains == "empty":
        (batchmill_home / home_lock.LOCK_NAME).touch()
    elif remains == "nonsense":
        (batchmill_home / home_lock.LOCK_NAME).write_bytes(b"\xff:1:2")
    elif remains == "of another process":
        write_holder(batchmill_home)  # this very process, which holds no lock and must survive

    result = down()

    assert result.exit_code == 0
    assert f"no `batchmill up` runs in {batchmill_home}" in result.stderr


def test_a_lock_left_by_a_killed_up_is_free(hold: Hold, batchmill_home: Path) -> None:
    first = hold()
    first.kill()
    first.wait()

    assert home_lock.find_holder(batchmill_home) is None
    with home_lock.lock_home(batchmill_home):
        assert (batchmill_home / home_lock.LOCK_NAME).read_text().split(":")[3] == str(os.getpid())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"host": "elsewhere"}, "runs on elsewhere (pid "),
        ({"start_time": "1"}, "an unknown process holds the lock"),  # the number belongs to another process by now
    ],
)
def test_down_signals_only_the_process_that_was_started(
    hold: Hold, batchmill_home: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], words: str
) -> None:
    monkeypatch.setattr(home_lock, "SETTLE_SECONDS", 0.1)
    first = hold()
    write_holder(batchmill_home, pid=first.pid, **fields)

    result = down()

    assert result.exit_code == 2
    assert words in result.stderr
    assert first.poll() is None
