"""File stores: a folder and a URL keep files alike, whole or not at all."""

import os
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.errors import FileStoreUnavailable, MissingSource, SourceNotReady
from models.settings import Settings
from producer.uploads.storage import local_store, store
from producer.uploads.storage.store import FileStore


@pytest.fixture(params=["folder", "mounted folder as a URL", "fsspec"])
def file_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
    places = {
        "folder": str(tmp_path / "a" / "b"),
        "mounted folder as a URL": f"file://{tmp_path / 'c'}",
        "fsspec": f"memory://{tmp_path}/files/",
    }
    yield store.open_store(Settings.load(file_store=places[request.param]))
    if request.param == "fsspec":
        import fsspec

        fsspec.filesystem("memory").store.clear()


def put(file_store: FileStore, *parts: bytes) -> store.StoredBytes:
    with file_store.create() as writer:
        for part in parts:
            writer.write(part)
        return writer.commit()


def names(file_store: FileStore) -> list[str]:
    return [stored.name for stored in file_store.names()]


def test_a_file_is_what_was_written(file_store: FileStore) -> None:
    stored = put(file_store, b"one\ntw", b"", b"o")

    assert (stored.size_bytes, stored.lines) == (7, 2)
    assert stored.sha256 == sha256(b"one\ntwo").hexdigest()
    with file_store.open(stored.location) as stream:
        assert stream.read() == b"one\ntwo"
    assert file_store.size_bytes(stored.location) == 7
    assert file_store.has(stored.location)


@pytest.mark.parametrize(("content", "lines"), [(b"", 0), (b"\n", 1), (b"a", 1), (b"a\n", 1), (b"a\n\nb", 3)])
def test_lines_are_counted_as_readers_do(file_store: FileStore, content: bytes, lines: int) -> None:
    assert put(file_store, content).lines == lines


def test_what_is_not_committed_does_not_exist(file_store: FileStore) -> None:
    with file_store.create() as writer:
        writer.write(b"half")
    assert names(file_store) == []


def test_a_deleted_file_is_gone(file_store: FileStore) -> None:
    stored = put(file_store, b"one")
    file_store.delete(stored.location)
    file_store.delete(stored.location)

    assert file_store.size_bytes(stored.location) is None
    with pytest.raises(MissingSource, match="gone"):
        file_store.open(stored.location)


def test_a_file_that_lost_bytes_is_not_whole(file_store: FileStore) -> None:
    stored = put(file_store, b"one")

    file_store.check_whole(stored.location, 3)
    with pytest.raises(MissingSource, match="has 3 bytes of the file, not 4"):
        file_store.check_whole(stored.location, 4)
    file_store.delete(stored.location)
    with pytest.raises(MissingSource, match="gone"):
        file_store.check_whole(stored.location, 3)


def test_names_are_random_and_have_an_age(file_store: FileStore) -> None:
    locations = {put(file_store, b"same").location for _ in range(3)}
    assert len(locations) == 3
    assert all(-5 < stored.age_seconds < 60 for stored in file_store.names())
    assert sorted(names(file_store)) == sorted(location.partition("/")[2] for location in locations)


def test_a_check_leaves_nothing(file_store: FileStore) -> None:
    file_store.check_writable()
    assert names(file_store) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "store-id", "A" * 32, "0" * 31, "0" * 32 + "\n", "0" * 33])
def test_a_forged_location_opens_nothing(file_store: FileStore, name: str) -> None:
    with pytest.raises(MissingSource):
        file_store.open(f"{file_store.store_id}/{name}")


@pytest.mark.parametrize("location", ["", "elsewhere/" + "0" * 32, "/etc/passwd"])
def test_a_file_of_another_store_may_be_there_for_others(file_store: FileStore, location: str) -> None:
    assert not file_store.has(location)
    with pytest.raises(SourceNotReady):
        file_store.open(location)


class TestFolder:
    def test_is_the_same_store_for_all_that_have_it_mounted(self, tmp_path: Path) -> None:
        settings = Settings.load(file_store=str(tmp_path))
        found: list[str] = []

        def ask() -> None:
            found.append(store.open_store(settings).store_id)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 1
        assert store.open_store(Settings.load(file_store=str(tmp_path / "other"))).store_id not in found

    def test_is_private(self, tmp_path: Path) -> None:
        file_store = store.open_store(Settings.load(file_store=str(tmp_path / "files")))
        stored = put(file_store, b"one")
        assert (tmp_path / "files").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "files" / stored.location.partition("/")[2]).stat().st_mode & 0o777 == 0o600

    def test_follows_no_link(self, tmp_path: Path) -> None:
        file_store = store.open_store(Settings.load(file_store=str(tmp_path)))
        assert file_store.store_id
        (tmp_path / ("0" * 32)).symlink_to("/etc/passwd")
        with pytest.raises(MissingSource):
            file_store.open(f"{file_store.store_id}/{'0' * 32}")

    @pytest.mark.parametrize("name", ["precious.txt", "0" * 32, f"{'0' * 32}.part"])
    def test_of_somebody_else_is_refused(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("mine")
        file_store = store.open_store(Settings.load(file_store=str(tmp_path)))
        for use in (lambda: file_store.store_id, file_store.create):
            with pytest.raises(FileStoreUnavailable, match="set file_store to an empty folder"):
                use()
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("name", ["lost+found", ".snapshot", "store-id-0123456789abcdef"])
    def test_may_have_what_a_file_system_or_a_killed_process_left(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).touch()
        file_store = store.open_store(Settings.load(file_store=str(tmp_path)))
        assert file_store.has(put(file_store, b"one").location)

    def test_shows_only_what_a_store_has_written(self, tmp_path: Path) -> None:
        # Given a store with a file, half of one, and what a killed process left
        file_store = store.open_store(Settings.load(file_store=str(tmp_path)))
        whole = put(file_store, b"one").location.partition("/")[2]
        half = file_store.create()
        (tmp_path / "store-id-0123456789abcdef").touch()

        # When a user puts files beside them
        for name in ("precious.txt", "data.csv", "a.part", "store-id-mine", "A" * 32, f"{'0' * 32}.txt"):
            (tmp_path / name).write_text("mine")

        # Then a sweep does not see those
        partial = next(path.name for path in tmp_path.glob("?" * 32 + ".part"))
        assert sorted(names(file_store)) == sorted([whole, partial, "store-id-0123456789abcdef"])
        half.discard()

    def test_that_is_full_says_so(self) -> None:
        file_store = store.open_store(Settings.load(file_store="/dev/full/files"))
        with pytest.raises(FileStoreUnavailable, match="/dev/full/files"):
            put(file_store, b"one")

    def test_leaves_some_of_the_disk_free(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file_store = store.open_store(Settings.load(file_store=str(tmp_path)))
        assert file_store.store_id
        free = iter([local_store.MIN_FREE_BYTES, local_store.MIN_FREE_BYTES - 1])
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=next(free)))
        with pytest.raises(FileStoreUnavailable, match="free some space"):
            put(file_store, b"a" * (local_store.CHECK_BYTES - 1), b"the disk is full now")
        assert names(file_store) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_that_can_t_be_written_to_says_so(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(FileStoreUnavailable):
            put(store.open_store(Settings.load(file_store=str(tmp_path / "files"))), b"one")


class TestUrl:
    def test_that_no_package_knows_is_explained(self) -> None:
        file_store = store.open_store(Settings.load(file_store="nosuch://bucket/files"))
        with pytest.raises(FileStoreUnavailable, match="no installed package"):
            put(file_store, b"one")

    def test_is_shown_without_its_secrets(self) -> None:
        file_store = store.open_store(Settings.load(file_store="memory://user:hunter2@bucket/files?token=hunter2"))
        assert "hunter2" not in file_store.description
        assert "hunter2" not in repr(Settings.load(file_store="memory://user:hunter2@bucket/files"))
