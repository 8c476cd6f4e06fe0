"""The log's file: private, shared by a process and its children, and given back at the end."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from models import log
from models.errors import SettingsError


def test_a_file_gets_what_a_process_and_its_children_write(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "logs" / "up.log"

    for word in ("first", "second"):
        with log.redirect_output(log.open_file(path)):
            os.write(1, f"{word} out\n".encode())
            subprocess.run(["sh", "-c", f"echo {word} child >&2"], check=True)
    os.write(2, b"afterwards\n")

    assert path.read_text() == "first out\nfirst child\nsecond out\nsecond child\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert capfd.readouterr().err == "afterwards\n"


def test_no_file_changes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert log.open_file(None) is None

    with log.redirect_output(None):
        os.write(2, b"here\n")

    assert capfd.readouterr().err == "here\n"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("folder", "Is a directory"), ("below a file", "Not a directory"), ("pipe", "No such device or address")],
)
def test_a_file_that_can_not_be_used_is_named(tmp_path: Path, kind: str, reason: str) -> None:
    path = tmp_path / "log"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)  # nobody reads it: opening it must not wait
    else:
        path.touch()
        path /= "up.log"

    with pytest.raises(SettingsError, match=rf"the log file .*: {reason}; name another: --log-file FILE"):
        log.open_file(path)
