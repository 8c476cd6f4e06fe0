"""Tokens tell of whom it is known that he is gone."""

import os
import socket
import subprocess
import sys

import pytest

from producer import tokens


def of(pid: object, host: str | None = None) -> str:
    return f"{host or socket.gethostname()}:{pid}:0123456789abcdef"


def test_each_is_unlike_any_other_and_of_a_process_that_lives() -> None:
    assert tokens.new() != tokens.new()
    assert not tokens.has_died(tokens.new())


def test_a_process_has_died_as_soon_as_it_ended_even_if_nobody_asks_how() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if sys.platform == "linux":
            assert tokens.has_died(of(process.pid))

    assert tokens.has_died(of(process.pid))


@pytest.mark.parametrize(
    "token", [of(1), of(os.getpid()), of("words"), of(10**30), of(4_000_000, "elsewhere"), "", "::"]
)
def test_of_others_nothing_is_known(token: str) -> None:
    assert not tokens.has_died(token)
