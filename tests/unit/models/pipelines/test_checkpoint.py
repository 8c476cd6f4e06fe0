"""The headers of safetensors files: dtypes and sizes, and files that are none."""

from pathlib import Path

import pytest

from models.pipelines.checkpoint import Checkpoint
from models.pipelines.pipeline import SAMPLES_FOLDER
from tests.factories.checkpoints import write_header


def test_most_values_decide_the_dtype(tmp_path: Path) -> None:
    write_header(tmp_path / "model.safetensors", {"a": ("BF16", 200), "b": ("F32", 40), "c": ("I64", 8)})

    checkpoint = Checkpoint.read(tmp_path)

    assert checkpoint == Checkpoint("bfloat16", 110, 8)
    assert (checkpoint.size_bytes("float16"), checkpoint.size_bytes("float32")) == (228, 448)


def test_shards_are_summed_and_other_files_are_not(tmp_path: Path) -> None:
    write_header(tmp_path / "model-00001-of-00002.safetensors", {"a": ("F16", 20)})
    write_header(tmp_path / "model-00002-of-00002.safetensors", {"b": ("F16", 22)})
    write_header(tmp_path / "consolidated.safetensors", {"a": ("F32", 84)})
    assert Checkpoint.read(tmp_path) == Checkpoint("float16", 21, 0)

    write_header(tmp_path / "model.safetensors", {"a": ("F32", 8)})
    assert Checkpoint.read(tmp_path) == Checkpoint("float32", 2, 0)


def test_a_sample_has_its_own_dtype() -> None:
    checkpoint = Checkpoint.read(SAMPLES_FOLDER / "ner")

    assert checkpoint is not None
    assert checkpoint.dtype == "float32"
    assert 0 < checkpoint.size_bytes("float32") < (SAMPLES_FOLDER / "ner" / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32"}}',
        b'{"a": {"dtype": "F32", "data_offsets": [0]}}',
        b'{"a": {"dtype": "F32", "data_offsets": [0, 1e999]}}',
        b'{"a": {"dtype": "F32", "data_offsets": [0, "x"]}}',
        b'{"a": {"dtype": "F32", "data_offsets": [9, 0]}}',
        b'{"__metadata__": {}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_no_checkpoint(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)

    assert Checkpoint.read(tmp_path) is None


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)

    assert Checkpoint.read(tmp_path) is None


def test_a_folder_without_weights(tmp_path: Path) -> None:
    assert Checkpoint.read(tmp_path) is None
    assert Checkpoint.read(tmp_path / "none") is None
