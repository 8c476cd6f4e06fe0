"""What the doctor says about uploaded files."""

from pathlib import Path

import pytest

from models.db import Database
from models.settings import Settings
from producer.health.upload_checks import check_uploads
from producer.uploads import files
from producer.uploads.files import NewFile
from producer.uploads.storage.store import open_store


def levels(database: Database, settings: Settings) -> list[str]:
    return [finding.level for finding in check_uploads(database, settings)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load(file_store=str(tmp_path / "files"))


def upload(database: Database, settings: Settings) -> str:
    with open_store(settings).create() as writer:
        writer.write(b"one\n")
        return str(files.save_file(database, settings, NewFile("a", stored=writer.commit())).location)


def test_without_files_and_without_a_setting_there_is_nothing_to_say(database: Database, tmp_path: Path) -> None:
    assert levels(database, Settings.load(home=str(tmp_path / "home"))) == []
    assert not (tmp_path / "home").exists()


def test_a_store_in_order_is_named(database: Database, settings: Settings) -> None:
    upload(database, settings)
    [finding] = check_uploads(database, settings)
    assert (finding.level, settings.file_store in finding.message) == ("ok", True)


def test_files_that_lost_bytes_are_a_problem(database: Database, settings: Settings, tmp_path: Path) -> None:
    gone, cut, _ = (upload(database, settings) for _ in range(3))
    open_store(settings).delete(gone)
    (tmp_path / "files" / cut.partition("/")[2]).write_bytes(b"o")

    assert levels(database, settings) == ["ok", "problem"]
    assert "2 files have lost bytes" in list(check_uploads(database, settings))[1].message


def test_files_of_another_machine_are_no_problem(database: Database, settings: Settings, tmp_path: Path) -> None:
    upload(database, Settings.load(file_store=str(tmp_path / "elsewhere")))
    assert levels(database, settings) == ["ok", "ok"]


def test_a_store_that_can_t_be_written_to_is_a_problem(database: Database) -> None:
    assert levels(database, Settings.load(file_store="/dev/null/files")) == ["problem"]
