"""Tokens tell of which processes it is known that they are gone."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from producer.submission import holders
from producer.submission.holders import HolderId, PidNamespace

NEW = "from producer.submission import holders; print(holders.new_holder_id(), flush=True)"
LINUX = sys.platform == "linux"


def of(pid: int, started: str = "", **place: str) -> str:
    """The token of a process with this id, here unless told otherwise."""
    return str(HolderId(replace(PidNamespace.current(), **place), pid, started, "0123456789abcdef"))


def ended() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_each_is_unlike_any_other_and_of_a_process_that_lives() -> None:
    assert holders.new_holder_id() != holders.new_holder_id()
    assert not holders.is_holder_gone(holders.new_holder_id())


def test_one_is_read_as_it_was_written() -> None:
    token = HolderId(PidNamespace("fe80::1", "boot", "4026531836"), 12, "345", "abc")

    assert HolderId.parse(str(token)) == token
    assert str(HolderId.parse(holders.new_holder_id())).rpartition(":")[0] == holders.new_holder_id().rpartition(":")[0]


def test_a_process_has_died_as_soon_as_it_ended_even_if_nobody_asks_how() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if LINUX:
            assert holders.is_holder_gone(of(process.pid))

    assert holders.is_holder_gone(of(process.pid))


@pytest.mark.skipif(not LINUX, reason="only Linux says when a process began")
def test_a_process_whose_id_is_another_s_now_has_died() -> None:
    alive = HolderId.parse(holders.new_holder_id())
    assert alive is not None

    assert holders.is_holder_gone(str(replace(alive, start_time="1")))
    assert not holders.is_holder_gone(str(alive))
    assert not holders.is_holder_gone(str(replace(alive, start_time=""))), "nothing is known of when that one began"


@pytest.mark.parametrize("where", ["host", "boot_id", "namespace"])
def test_elsewhere_nothing_is_known(where: str) -> None:
    """A machine of the same name, the same one before it booted, or another container on it."""
    pid = ended()
    assert holders.is_holder_gone(of(pid))

    assert not holders.is_holder_gone(of(pid, **{where: "another"}))


@pytest.mark.parametrize("pid", [1, None, 10**30], ids=["init", "ours", "nobody's"])
def test_of_others_and_of_ourselves_nothing_is_known(pid: int | None) -> None:
    assert not holders.is_holder_gone(of(os.getpid() if pid is None else pid))


@pytest.mark.parametrize("token", ["", "::", "host:words:abc", "host:4000000:abc", ":::::", "a:b:c:x:e:f"])
def test_of_what_is_no_token_nothing_is_known(token: str) -> None:
    assert not holders.is_holder_gone(token)


@pytest.mark.skipif(not LINUX or os.geteuid() != 0, reason="a PID namespace needs root")
@pytest.mark.parametrize("mounts", [["--mount-proc"], []])
def test_a_holder_in_another_pid_namespace_is_not_taken_for_dead(mounts: list[str]) -> None:
    """Its id is one that nobody has here, or that somebody else has; and so are ours over there."""
    inside = [
        "unshare",
        "--pid",
        "--fork",
        *mounts,
        sys.executable,
        "-c",
        f"import sys; {NEW}; print(holders.is_holder_gone(sys.argv[1]), flush=True); sys.stdin.readline()",
        of(ended()),
    ]
    with subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        token, verdict = process.stdout.readline().strip(), process.stdout.readline().strip()

        assert not holders.is_holder_gone(token)
        assert verdict == "False"
        process.communicate("go\n")
    assert HolderId.parse(token) is not None
