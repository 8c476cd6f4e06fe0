"""Scores on the device in each dtype, against float32 on the CPU."""

from pathlib import Path

import pytest
import torch

from tests.factories import tiny_models
from tests.gpu.conftest import entry_for, load_on
from tests.unit.worker.layers.test_packed_layers import encode_rows, max_difference, scores, texts

CLOSE = {"float32": 1e-4, "float16": 2e-3, "bfloat16": 2e-2}
CLEAR_MARGIN = 5e-2  # between the best label and the next, beyond which no rounding may change it
LENGTHS = (1, 3, 9, 20, 40, 58, 2, 9)


@pytest.mark.parametrize("dtype", CLOSE)
def test_scores_are_those_of_float32_on_the_cpu(device: str, dtype: str, tmp_path: Path) -> None:
    folder = tiny_models.distilbert(tmp_path, num_labels=3, initializer_range=0.1)
    ours = load_on(device, entry_for(folder, "sentiment-analysis", dtype=dtype))
    reference = load_on("cpu", entry_for(folder, "sentiment-analysis", dtype="float32"))
    rows = [row for seed in range(4) for row in encode_rows(ours, texts(LENGTHS, seed=seed))]
    assert torch.get_float32_matmul_precision() == "highest", "TF32 would cost accuracy without being asked for"

    found, expected = scores(ours, rows), scores(reference, rows)

    assert str(ours.model.dtype) == f"torch.{dtype}"
    assert max_difference(found, expected) <= CLOSE[dtype]
    for row_scores, row_expected in zip(found, expected, strict=True):
        best, second = row_expected.topk(2).values
        if best - second > CLEAR_MARGIN:
            assert row_scores.argmax() == row_expected.argmax()


@pytest.mark.gpu
def test_the_version_names_card_and_dtype(gpu: str, tmp_path: Path) -> None:
    version = load_on(gpu, entry_for(tiny_models.distilbert(tmp_path), "sentiment-analysis", dtype="float16")).version

    name = torch.cuda.get_device_name(gpu) if gpu.startswith("cuda") else gpu
    assert (version.device, version.dtype) == (name, "float16")
