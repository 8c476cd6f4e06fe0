import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.errors import ModelError
from models.pipelines import folder_hash
from models.pipelines.folder_hash import FolderState, cached_content_hash, content_hash


def write_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def test_names_its_kind(folder: Path) -> None:
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", content_hash(folder))


def test_is_the_same_for_the_same_content_anywhere(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)

    assert content_hash(elsewhere) == content_hash(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"weightz"),
        lambda folder: (folder / "model.safetensors").write_bytes(b"weights\0"),
        lambda folder: (folder / "tokenizer.json").rename(folder / "tokenizer2.json"),
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "added").touch(),
        lambda folder: (folder / "deeper").mkdir() or (folder / "deeper" / "added").touch(),
    ],
    ids=["a byte", "a byte more", "a name", "a file less", "an empty file more", "a file further down"],
)
def test_changes_with_any_change(folder: Path, change: Any) -> None:
    before = content_hash(folder)

    change(folder)

    assert content_hash(folder) != before


def test_tells_contents_apart_that_were_swapped(folder: Path) -> None:
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")
    before = content_hash(folder)

    (folder / "a").write_bytes(b"2")
    (folder / "b").write_bytes(b"1")

    assert content_hash(folder) != before


def test_leaves_hidden_files_aside(folder: Path) -> None:
    before = content_hash(folder)

    (folder / ".DS_Store").touch()
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")

    assert content_hash(folder) == before


def test_does_not_mind_a_hidden_folder_above(tmp_path: Path) -> None:
    plain = write_model(tmp_path / "plain")
    hidden = write_model(tmp_path / ".cache" / "plain")

    assert content_hash(hidden) == content_hash(plain)


def test_of_no_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no adapter folder .*/nowhere; check the catalogue entry's adapter"):
        content_hash(tmp_path / "nowhere", "adapter")
    with pytest.raises(ModelError, match=r"there is no model folder .*/nowhere"):
        content_hash(tmp_path / "nowhere")


class TestKnownHash:
    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where hashes are kept; every folder is large enough, and none was written to lately."""
        monkeypatch.setattr(folder_hash, "MIN_CACHED_BYTES", 0)
        monkeypatch.setattr(folder_hash, "STABLE_AFTER_SECONDS", -60.0)
        return tmp_path / "home" / "hashes.json"

    @pytest.fixture
    def hashed(self, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        """The folders that were read."""
        hashed: list[Path] = []

        def counted(folder: Path) -> str:
            hashed.append(folder)
            return content_hash(folder)

        monkeypatch.setattr(folder_hash, "content_hash", counted)
        return hashed

    def test_reads_a_folder_once(self, folder: Path, cache: Path, hashed: list[Path], tmp_path: Path) -> None:
        other = write_model(tmp_path / "other")
        (other / "more").touch()

        for _ in range(3):
            assert cached_content_hash(folder, cache) == content_hash(folder)
            assert cached_content_hash(other, cache) == content_hash(other)

        assert hashed == [folder, other]
        assert cache.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("name", ["model.safetensors", "added", "deeper"])
    def test_reads_it_again_when_anything_changed(
        self, folder: Path, cache: Path, hashed: list[Path], name: str
    ) -> None:
        cached_content_hash(folder, cache)
        if name == "deeper":
            (folder / name).mkdir()
            name = "deeper/file"
        before = (folder / "model.safetensors").stat()
        (folder / name).write_bytes(b"WEIGHTS")
        os.utime(folder / name, ns=(before.st_atime_ns, before.st_mtime_ns))

        assert cached_content_hash(folder, cache) == content_hash(folder)
        assert len(hashed) == 2

    def test_keeps_nothing_of_what_was_written_to_lately(
        self, folder: Path, cache: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(folder_hash, "STABLE_AFTER_SECONDS", 60.0)

        cached_content_hash(folder, cache)

        assert not cache.exists()

    @pytest.mark.parametrize("kept", [b"", b"[]", b"{", b'{"a": 1}', b'{"a": ["b"]}', b"\xff"])
    def test_needs_nothing_that_is_kept(self, folder: Path, cache: Path, kept: bytes) -> None:
        cache.parent.mkdir()
        cache.write_bytes(kept)

        assert cached_content_hash(folder, cache) == content_hash(folder)
        assert cached_content_hash(folder, cache) == content_hash(folder)

    def test_needs_no_place_to_keep_it(self, folder: Path, cache: Path) -> None:
        cache.parent.touch()

        assert cached_content_hash(folder, cache) == content_hash(folder)

    def test_of_no_folder_is_an_error(self, tmp_path: Path, cache: Path) -> None:
        with pytest.raises(ModelError, match="there is no model folder"):
            cached_content_hash(tmp_path / "nowhere", cache)


def test_a_folder_that_goes_is_not_still_the_same(folder: Path) -> None:
    state, revision = FolderState.from_folder(folder), content_hash(folder)
    assert state.has_revision(folder, revision)

    shutil.rmtree(folder)

    assert not state.has_revision(folder, revision)
