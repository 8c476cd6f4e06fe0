"""A home that can't be written to: each command says so in the same sentence, and works once it can be."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy.exc import OperationalError

import batchmill
from models.db import Database
from models.errors import BatchmillError, SettingsError, Unreachable
from models.privacy import private_files

ROOT = Path(batchmill.__file__).parent
COMMANDS = (["ls"], ["submit", "in.jsonl", "-p", "sample-sentiment-analysis"], ["up"], ["maintain"], ["db", "upgrade"])

# Runs the commands in a mount namespace of its own, where a folder is read-only.
RUN_ALL = f"""
import subprocess, sys
from click.testing import CliRunner
import batchmill
folder, home = sys.argv[1:]
subprocess.run(["mount", "--bind", folder, folder], check=True)
subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
for command in {COMMANDS}:
    result = CliRunner().invoke(batchmill.cli, ["--home", home, *command])
    print(result.exit_code, result.stderr.replace("batchmill: ", ""), end="")
"""


def run_read_only(folder: Path, home: Path) -> list[str]:
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", RUN_ALL, str(folder), str(home)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        result = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs mount namespaces of users")
    return result.stdout.splitlines()


@pytest.mark.parametrize("kind", ["existing", "missing"])
def test_every_command_names_a_read_only_home(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in.jsonl").write_text('"a text"\n')
    (folder := tmp_path / "disk").mkdir()
    home = folder / "home"
    if kind == "existing":
        assert CliRunner().invoke(batchmill.cli, ["--home", str(home), "ls"]).exit_code == 0

    lines = run_read_only(folder, home)

    sentence = f"5 {home} can't be written to: Read-only file system; make it writable, or set BATCHMILL_HOME or "
    assert [line.startswith(sentence) for line in lines] == [True] * len(COMMANDS), lines
    assert CliRunner().invoke(batchmill.cli, ["--home", str(home), "ls"]).exit_code == 0


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (
            errno.EROFS,
            Unreachable,
            "can't be written to: Read-only file system; make it writable, or set BATCHMILL_HOME",
        ),
        (errno.EACCES, Unreachable, "can't be written to: Permission denied; make it writable"),
        (errno.ENOSPC, Unreachable, "is full; make room on its disk"),
        (errno.EDQUOT, Unreachable, "is full; make room on its disk"),
        (errno.ENOTDIR, SettingsError, "can't be written to: Not a directory; set BATCHMILL_HOME"),
    ],
)
def test_what_may_pass_is_told_apart(number: int, kind: type[BatchmillError], words: str) -> None:
    with pytest.raises(kind) as caught, private_files.explain_unwritable(Path("/home/me")):
        raise OSError(number, os.strerror(number))

    assert str(caught.value).startswith("/home/me ")
    assert words in str(caught.value)


@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize("writable", [True, False])
def test_a_file_that_can_not_be_opened_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ours: bool, writable: bool
) -> None:
    """A worker waits for a home that became read-only, so the error must be one that it retries."""
    monkeypatch.setattr(os, "access", lambda _path, _mode: writable)
    (tmp_path / "folder.db").mkdir()
    database = Database(f"sqlite:///{tmp_path / 'folder.db'}", is_ours=is_ours)

    with pytest.raises(Unreachable) as caught, database.read():
        pass

    assert isinstance(caught.value.__cause__, OperationalError)
    assert caught.value.retryable
    assert (f"{tmp_path} can't be written to" in str(caught.value)) == (is_ours and not writable)
    database.close()
