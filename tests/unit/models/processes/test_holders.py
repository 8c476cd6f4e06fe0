"""Holder ids show which processes have certainly exited."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from models.processes import holders
from models.processes.holders import HolderId, PidNamespace

PRINT_NEW_ID = "from models.processes import holders; print(holders.new_holder_id(), flush=True)"
LINUX = sys.platform == "linux"


def holder_id(pid: int, **namespace: str) -> str:
    """The holder id of a process with this id, in this namespace except for the fields given."""
    return str(HolderId(replace(PidNamespace.current(), **namespace), pid, "", "0123456789abcdef"))


def exited_pid() -> int:
    """The id of a process that has exited."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_new_id_is_unique_and_its_holder_exists() -> None:
    assert holders.new_holder_id() != holders.new_holder_id()
    assert not holders.is_holder_gone(holders.new_holder_id())


def test_an_id_is_parsed_as_it_was_written() -> None:
    holder = HolderId(PidNamespace("fe80::1", "boot", "4026531836"), 12, "345", "abc")

    assert HolderId.parse(str(holder)) == holder
    assert str(HolderId.parse(holders.new_holder_id())).rpartition(":")[0] == holders.new_holder_id().rpartition(":")[0]


def test_a_zombie_is_gone_and_so_is_a_process_that_was_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if LINUX:
            assert holders.is_holder_gone(holder_id(process.pid))

    assert holders.is_holder_gone(holder_id(process.pid))


@pytest.mark.skipif(not LINUX, reason="only Linux has the start time of a process")
def test_a_process_whose_id_was_used_again_is_gone() -> None:
    current = HolderId.parse(holders.new_holder_id())
    assert current is not None

    assert holders.is_holder_gone(str(replace(current, start_time="1")))
    assert not holders.is_holder_gone(str(current))
    assert not holders.is_holder_gone(str(replace(current, start_time=""))), "its start time is unknown"


@pytest.mark.parametrize("field", ["host", "boot_id", "namespace"])
def test_a_process_elsewhere_is_not_gone(field: str) -> None:
    """Another machine, the same one before a reboot, or another container on it."""
    pid = exited_pid()
    assert holders.is_holder_gone(holder_id(pid))

    assert not holders.is_holder_gone(holder_id(pid, **{field: "another"}))


@pytest.mark.parametrize("pid", [1, None, 10**30], ids=["init", "own", "impossible"])
def test_a_process_that_exists_or_can_t_be_checked_is_not_gone(pid: int | None) -> None:
    assert not holders.is_holder_gone(holder_id(os.getpid() if pid is None else pid))


@pytest.mark.parametrize("text", ["", "::", "host:words:abc", "host:4000000:abc", ":::::", "a:b:c:x:e:f"])
def test_text_that_is_no_holder_id_is_not_gone(text: str) -> None:
    assert not holders.is_holder_gone(text)


@pytest.mark.skipif(not LINUX or os.geteuid() != 0, reason="a PID namespace needs root")
@pytest.mark.parametrize("mounts", [["--mount-proc"], []])
def test_a_holder_in_another_pid_namespace_is_not_gone(mounts: list[str]) -> None:
    """Its process id means nothing here, nor ours there."""
    command = [
        "unshare",
        "--pid",
        "--fork",
        *mounts,
        sys.executable,
        "-c",
        f"import sys; {PRINT_NEW_ID}; print(holders.is_holder_gone(sys.argv[1]), flush=True); sys.stdin.readline()",
        holder_id(exited_pid()),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        inside_id, is_gone = process.stdout.readline().strip(), process.stdout.readline().strip()

        assert not holders.is_holder_gone(inside_id)
        assert is_gone == "False"
        process.communicate("go\n")
    assert HolderId.parse(inside_id) is not None
