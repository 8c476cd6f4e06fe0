"""What a sweep deletes, and what it leaves."""

import os
import shutil
import time
from pathlib import Path

import pytest

from models.db import Database
from models.errors import NotFound
from models.settings import Settings
from producer.uploads import files
from producer.uploads.files import FileView
from producer.uploads.intake.intake import Outcome
from producer.uploads.storage import sweeping
from producer.uploads.storage.sweeping import sweep_files, sweep_orphans
from tests.factories.batch_rows import execute
from tests.integration.uploads.conftest import Uploads, lines

LONG_AGO = "2020-01-01 00:00:00+00:00"


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "GRACE_SECONDS", 0.0)


def has_bytes(uploads: Uploads, file: FileView) -> bool:
    return uploads.intake.store.size_bytes(str(file.location)) is not None


def count_rows(uploads: Uploads) -> int:
    with uploads.database.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM files").scalar_one())


def test_deleted_and_expired_files_lose_their_bytes_and_then_their_rows(uploads: Uploads) -> None:
    deleted, expired, kept = (uploads.upload(lines(1)) for _ in range(3))
    files.delete_file(uploads.database, deleted.id)
    execute(uploads.database, f"UPDATE files SET expires_at = '{LONG_AGO}' WHERE id = :id", id=expired.id)
    with pytest.raises(NotFound):
        files.get_file(uploads.database, expired.id)

    assert sweep_files(uploads.database, uploads.intake.store).files == 2

    assert [has_bytes(uploads, file) for file in (deleted, expired, kept)] == [False, False, True]
    assert count_rows(uploads) == 1


def test_a_deleted_file_stays_until_its_batch_was_read(uploads: Uploads) -> None:
    file = uploads.upload(lines(2))
    opened = uploads.open(file)
    files.delete_file(uploads.database, file.id)

    assert sweep_files(uploads.database, uploads.intake.store).files == 0
    assert uploads.intake.take_in(opened.id) is Outcome.ACCEPTED
    assert sweep_files(uploads.database, uploads.intake.store).files == 1
    assert not has_bytes(uploads, file)


def test_a_sweep_that_was_killed_is_repeated(uploads: Uploads) -> None:
    file = uploads.upload(lines(2))
    files.delete_file(uploads.database, file.id)
    uploads.intake.store.delete(str(file.location))

    assert sweep_files(uploads.database, uploads.intake.store).files == 1
    assert count_rows(uploads) == 0


def test_files_of_another_machine_are_left_alone(uploads: Uploads, tmp_path: Path) -> None:
    file = uploads.upload(lines(2))
    files.delete_file(uploads.database, file.id)

    assert sweep_files(uploads.database, uploads.other_machine(tmp_path / "elsewhere").store).files == 0
    assert count_rows(uploads) == 1


def test_many_deleted_files_of_another_machine_stop_no_sweep(
    uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "MAX_FILES", 2)
    elsewhere = Uploads(uploads.database, uploads.settings.model_copy(update={"home": tmp_path / "elsewhere"}))
    for place in (elsewhere, elsewhere, uploads):
        files.delete_file(uploads.database, place.upload(lines(1)).id)

    assert sweep_files(uploads.database, uploads.intake.store).files == 1
    assert count_rows(uploads) == 2


def test_what_has_no_row_goes_after_a_day(uploads: Uploads) -> None:
    # Given a file with a row, and what two killed servers left: a whole file and half of one
    store = uploads.intake.store
    known = uploads.upload(lines(1))
    with store.create() as writer:
        writer.write(b"whole")
        writer.commit()
    half = store.create()
    half.write(b"half")
    folder = Settings.load().home_path / "files"
    assert sweep_orphans(uploads.database, store).orphans == 0, "an upload may still get its row"

    # When they are two days old
    for path in folder.iterdir():
        os.utime(path, times=(time.time() - 2 * 86_400,) * 2)
    assert sweep_orphans(uploads.database, store).orphans == 2

    # Then only the file with a row is left
    assert [stored.name for stored in store.names()] == [str(known.location).partition("/")[2]]
    assert has_bytes(uploads, known)
    half.discard()


@pytest.mark.parametrize("place", ["folder", "fsspec"])
def test_files_of_another_database_in_the_same_store_are_left_alone(
    uploads: Uploads, sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    # Given a store that two databases use, with an old file of each, and one that neither knows
    monkeypatch.setattr(sweeping, "ORPHAN_SECONDS", -60.0)
    where = str(tmp_path / "files") if place == "folder" else f"memory://{tmp_path}"
    settings = Settings.load(file_store=where)
    shutil.copy(sqlite_template, tmp_path / "other.db")
    other_database = Database(f"sqlite:///{tmp_path / 'other.db'}")
    both = [Uploads(each, settings) for each in (uploads.database, other_database)]
    assert [sweep_orphans(each.database, each.intake.store).orphans for each in both] == [0, 0]
    known = [(each, each.upload(lines(1))) for each in both]
    with both[0].intake.store.create() as writer:
        writer.commit()

    # When both sweep
    swept = [sweep_orphans(each.database, each.intake.store).orphans for each in both]

    # Then nothing is deleted, until the mark of one is
    assert swept == [0, 0]
    assert all(has_bytes(each, file) for each, file in known)
    if place == "folder":
        with other_database.read() as connection:
            mark = connection.exec_driver_sql(sweeping.SELECT_MARK.replace(":id", f"'{sweeping.MARK_ID}'")).scalar_one()
        (tmp_path / "files" / f"database-{mark}").unlink()
        assert sweep_orphans(uploads.database, both[0].intake.store).orphans == 2
    assert list(files.list_files(uploads.database, 10, files.FileFilter(None)).files) == [known[0][1]]
    other_database.close()


def test_rows_of_a_deleted_batch_s_results_go_too(uploads: Uploads) -> None:
    uploads.upload(lines(1))
    with uploads.database.write() as connection:
        new = files.NewFile("results.jsonl", files.PURPOSE_OUTPUT, batch_id="batch_gone")
        files.insert_file(connection, uploads.database.sql, uploads.settings, new)

    sweep_files(uploads.database, uploads.intake.store)
    assert count_rows(uploads) == 1


def test_a_batch_that_was_cancelled_needs_its_file_no_more(uploads: Uploads) -> None:
    file = uploads.upload(lines(2))
    uploads.open(file)
    execute(uploads.database, "UPDATE batches SET status = 'cancelled'")
    files.delete_file(uploads.database, file.id)

    assert sweep_files(uploads.database, uploads.intake.store).files == 1
    with uploads.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(read_request) FROM batches").scalar_one() == 0
