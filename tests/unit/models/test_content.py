import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.content import content_hash
from models.errors import ModelError


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
    with pytest.raises(ModelError, match=r"there is no model folder .*/nowhere"):
        content_hash(tmp_path / "nowhere")
