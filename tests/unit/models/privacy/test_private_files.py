"""What Batchmill makes is for this user alone, and what others may have made is not trusted."""

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

import batchmill
from models import schema
from models.errors import Unreachable
from models.lifecycle import wakeups
from models.privacy import private_files
from models.settings import Settings

pytestmark = pytest.mark.usefixtures("wide")


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> object:
    """A umask that takes nothing away: what is private is made so."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_embedded_database_and_its_home(batchmill_home: Path) -> None:
    database = schema.open_database(Settings.load())
    with database.write():
        made = {path.name: mode(path) for path in batchmill_home.iterdir()}
    database.close()

    assert mode(batchmill_home) == 0o700
    assert {"batchmill.db", "batchmill.db-wal", "batchmill.db-shm"} <= made.keys()
    assert set(made.values()) == {0o600}


def test_what_is_there_keeps_its_mode(batchmill_home: Path) -> None:
    batchmill_home.mkdir(0o750)
    (batchmill_home / "batchmill.db").touch(0o640)

    schema.open_database(Settings.load()).close()

    assert (mode(batchmill_home), mode(batchmill_home / "batchmill.db")) == (0o750, 0o640)


def test_a_file_is_never_wider_than_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_files, "make_file", lambda path: made.append(path) or private_files.open_file(path))
    made: list[Path] = []

    schema.upgrade(f"sqlite:///{tmp_path / 'a.db'}")

    assert made == [tmp_path / "a.db"]
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}


def test_folders_above_are_made_the_same_way(tmp_path: Path) -> None:
    private_files.make_folder(tmp_path / "a" / "b")

    assert [mode(tmp_path / "a"), mode(tmp_path / "a" / "b")] == [0o700, 0o700]


class TestSocketElsewhere:
    """The embedded Valkey's socket where home's path is too long for one."""

    @pytest.fixture
    def settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
        with tempfile.TemporaryDirectory(prefix="t") as short:  # a socket's path has 107 bytes at most
            monkeypatch.setattr("tempfile.tempdir", short)
            monkeypatch.setattr("models.settings.home_folder.MAX_SOCKET_PATH_BYTES", 20)
            yield Settings.load(home=tmp_path / ("x" * 100))

    def test_a_folder_of_our_own_is_fine(self, settings: Settings) -> None:
        assert settings.untrusted_socket_reason is None
        private_files.make_folder(settings.embedded_socket_path.parent)
        assert settings.untrusted_socket_reason is None

    @pytest.mark.parametrize("kind", ["link", "file", "group", "all", "another's"])
    def test_another_is_refused_by_all_who_would_use_it(
        self, settings: Settings, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = settings.embedded_socket_path.parent
        if kind == "link":
            (tmp_path / "theirs").mkdir(0o700)
            folder.symlink_to(tmp_path / "theirs")
        elif kind == "file":
            folder.touch()
        else:
            folder.mkdir()
            folder.chmod({"group": 0o770, "all": 0o777}.get(kind, 0o700))
        if kind == "another's":
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

        assert str(folder) in (settings.untrusted_socket_reason or "")
        assert "BATCHMILL_HOME" in (settings.untrusted_socket_reason or "")
        calls = (partial(wakeups.send_wakeups, pipeline="a", count=1), wakeups.server_info, wakeups.celery_app)
        for call in calls:
            with pytest.raises(Unreachable, match="BATCHMILL_HOME"):
                call(settings)
        result = CliRunner().invoke(batchmill.cli, ["--home", str(settings.home), "up"])
        assert (result.exit_code, str(folder) in result.stderr) == (2, True), result.output

    def test_nothing_is_sent_there(self, settings: Settings) -> None:
        folder = settings.embedded_socket_path.parent
        folder.mkdir()
        folder.chmod(0o777)
        with socket.socket(socket.AF_UNIX) as theirs:
            theirs.bind(str(settings.embedded_socket_path))
            theirs.listen()
            theirs.setblocking(False)
            with pytest.raises(Unreachable):
                wakeups.queue_depths(settings, ["a"])
            with pytest.raises(BlockingIOError):
                theirs.accept()


def test_doctor_warns_where_others_may_look(batchmill_home: Path) -> None:
    batchmill_home.mkdir(0o755)
    (batchmill_home / "batchmill.db").touch(0o644)

    lines = [line for line in CliRunner().invoke(batchmill.cli, ["doctor"]).stdout.splitlines() if "privacy" in line]

    assert [str(batchmill_home) in line and "chmod go-rwx" in line for line in lines] == [True, True]


def test_a_home_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    result = CliRunner().invoke(batchmill.cli, ["--home", str(tmp_path / "file" / "home"), "up"])

    assert result.exit_code == 2
    assert f"{tmp_path}/file/home can't be written to: Not a directory; set BATCHMILL_HOME" in result.stderr
