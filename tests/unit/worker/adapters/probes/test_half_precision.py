"""Probes in half precision: rounding that is large beside small scores is not taken for a difference."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification

from tests.factories import tiny_encoders as encoders
from tests.unit.worker.layers.test_packed_layers import attend_across_texts
from worker.loading import runtime

HALF = ("bfloat16", "float16")


def cancelling_model(folder: Path, architecture: str) -> Path:
    """A model whose scores are the sum of normalized states, so terms cancel out and mostly rounding is left."""
    encoders.token_classifier(folder, architecture)
    model = AutoModelForTokenClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.weight.fill_(1.0)
        model.classifier.bias.zero_()
    model.save_pretrained(folder)
    return folder


def load_adapter(folder: Path, dtype: str) -> Any:
    return runtime.load(encoders.pipeline_for(folder, "ner", dtype=dtype), "cpu", threads=1).adapter


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("architecture", ["bert", "distilbert", "modernbert"])
def test_scores_near_zero_are_packed(architecture: str, dtype: str, tmp_path: Path) -> None:
    adapter = load_adapter(cancelling_model(tmp_path, architecture), dtype)

    assert not adapter._encoder.needs_equal_lengths
    assert adapter.uses_packing


@pytest.mark.parametrize("dtype", HALF)
def test_texts_that_see_each_other_are_not(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cancelling_model(tmp_path, "bert")

    with attend_across_texts(monkeypatch):
        assert not load_adapter(folder, dtype).uses_packing


@pytest.mark.parametrize("dtype", HALF)
def test_padding_that_matters_is_not_taken_for_rounding(dtype: str, tmp_path: Path) -> None:
    adapter = load_adapter(cancelling_model(tmp_path, "convbert"), dtype)

    assert adapter._encoder.needs_equal_lengths
