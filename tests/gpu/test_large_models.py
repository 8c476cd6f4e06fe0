"""Quantized and spread models on the device: their answers are near those of float32, alone as together."""

from pathlib import Path

import pytest
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from models.pipelines.options.quantization import device_problem
from tests.factories import tiny_models
from tests.gpu.conftest import entry_for, load_on
from tests.unit.worker.layers.test_packed_layers import encode_rows, max_difference, scores, texts
from worker.layers import spread_weights
from worker.loading.large_models.torchao_layers import METHODS

LENGTHS = (1, 3, 9, 20, 40, 58, 2, 9)
BFLOAT16 = 2e-2
QUANTIZED = 0.1  # 4 bits move a score of random weights by less


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A classifier whose layers have sizes that each method takes."""
    torch.manual_seed(0)
    sizes = {"dim": 256, "hidden_dim": 512, "n_heads": 4, "n_layers": 3, "max_position_embeddings": 64}
    config = DistilBertConfig(vocab_size=len(tiny_models.WORDPIECE_VOCABULARY), pad_token_id=0, num_labels=3, **sizes)
    model = DistilBertForSequenceClassification(config)
    return tiny_models.save(tmp_path / "model", model, tiny_models.wordpiece_tokenizer())


@pytest.mark.parametrize("name", METHODS)
def test_a_quantized_model_is_near_and_keeps_rows_apart(device: str, name: str, folder: Path) -> None:
    if device_problem(name, device.partition(":")[0]):
        pytest.skip("the device can't run it")
    fields = {"dtype": "bfloat16", "quantization": name}
    ours = load_on(device, entry_for(folder, "sentiment-analysis", **fields))
    reference = load_on("cpu", entry_for(folder, "sentiment-analysis", dtype="float32"))
    rows = encode_rows(ours, texts(LENGTHS))

    together = scores(ours, rows)
    alone = [scores(ours, [row])[0] for row in rows]

    assert max_difference(together, alone) <= BFLOAT16
    assert max_difference(together, scores(reference, encode_rows(reference, texts(LENGTHS)))) <= QUANTIZED
    assert ours.weight_bytes < 0.5 * reference.weight_bytes


@pytest.mark.gpu
def test_a_spread_model_is_the_undivided_one(gpu: str, folder: Path, tmp_path: Path) -> None:
    place = "cuda:0" if gpu.startswith("cuda") else "cpu"
    limits = {place: "4.5MB"} | ({"cpu": "1GB"} if place != "cpu" else {})
    entry = entry_for(folder, "sentiment-analysis", dtype="float32", device_map="sequential", max_memory=limits)
    ours = load_on(gpu, entry, offload_parent=tmp_path / "offload")
    reference = load_on(gpu, entry_for(folder, "sentiment-analysis", dtype="float32"))

    found = scores(ours, encode_rows(ours, texts(LENGTHS)))

    assert ours.is_spread
    assert len(spread_weights.bytes_by_place(ours.model)) == 2
    assert max_difference(found, scores(reference, encode_rows(reference, texts(LENGTHS)))) <= 1e-5
