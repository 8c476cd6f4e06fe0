"""Layers after the pooling are loaded only if they are whole, and from safetensors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.embedding.activations import ACTIVATION_NAMES
from models.embedding.sentence_files import SentenceFiles
from models.errors import ModelError
from tests.factories.sentence_models import add_modules, write_json
from worker.adapters.embedding.head import EmbeddingHead

DENSE = {"in_features": 32, "out_features": 8}


def load(folder: Path) -> EmbeddingHead:
    files = SentenceFiles.read(folder)
    assert files is not None
    return EmbeddingHead.load(files, folder, 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "config.json", {"hidden_size": 32})
    return add_modules(tmp_path, steps=[("Dense", DENSE), ("Normalize", {})])


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_activations_are_those_of_torch(folder: Path, name: str) -> None:
    write_json(
        folder / "2_Dense" / "config.json", {**DENSE, "activation_function": f"torch.nn.modules.activation.{name}"}
    )
    weights, vectors = load_file(folder / "2_Dense" / "model.safetensors"), torch.randn(3, 32)

    output = load(folder)(vectors, False, None)

    linear = torch.nn.functional.linear(vectors, weights["linear.weight"], weights["linear.bias"])
    assert torch.equal(output, getattr(torch.nn, name)()(linear))


@pytest.mark.parametrize("name", ["os.system", "torch.hub.load", "torch.nn.Linear", "x.Tanh", "torch.evil.ReLU", 3])
def test_other_activations_are_refused(folder: Path, name: Any) -> None:
    write_json(folder / "2_Dense" / "config.json", {**DENSE, "activation_function": name})

    with pytest.raises(ModelError, match="2_Dense asks for the activation"):
        load(folder)


def test_weights_must_be_there_whole(folder: Path) -> None:
    path = folder / "2_Dense" / "model.safetensors"
    save_file({"linear.bias": torch.zeros(8)}, path)
    with pytest.raises(ModelError, match=r"2_Dense/model.safetensors has no linear.weight"):
        load(folder)

    save_file({"linear.weight": torch.zeros(8, 31), "linear.bias": torch.zeros(8)}, path)
    with pytest.raises(ModelError, match=r"other sizes than its config.json"):
        load(folder)

    path.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"2_Dense/model.safetensors can't be read"):
        load(folder)

    path.unlink()
    with pytest.raises(ModelError, match=r"2_Dense/model.safetensors can't be read"):
        load(folder)


WEIGHT, BIAS, RESIDUAL = torch.ones(8, 32), torch.ones(8), torch.ones(8, 32)


@pytest.mark.parametrize(
    ("config", "weights", "problem"),
    [
        ({}, {"linear.weight": WEIGHT}, "has no linear.bias"),
        ({"bias": True}, {"linear.weight": WEIGHT, "linear.bias": torch.ones(7)}, "has other sizes"),
        ({"bias": False}, {"linear.weight": WEIGHT, "linear.bias": BIAS}, "has linear.bias, of which its config.json"),
        ({"bias": False, "use_residual": True}, {"linear.weight": WEIGHT}, "has no residual.weight"),
        (
            {"bias": False, "use_residual": True},
            {"linear.weight": WEIGHT, "residual.weight": torch.ones(8, 31)},
            "has other sizes",
        ),
        ({"bias": False}, {"linear.weight": WEIGHT, "residual.weight": RESIDUAL}, "has residual.weight, of which"),
    ],
)
def test_weights_are_those_that_the_config_describes(
    folder: Path, config: Any, weights: dict[str, torch.Tensor], problem: str
) -> None:
    write_json(folder / "2_Dense" / "config.json", {**DENSE, **config})
    save_file(weights, folder / "2_Dense" / "model.safetensors")

    with pytest.raises(ModelError, match=problem):
        load(folder)


def test_a_normalization_has_one_number_for_each_of_the_vector(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"hidden_size": 32})
    add_modules(tmp_path, steps=[("LayerNorm", {"dimension": 32})])
    path = tmp_path / "2_LayerNorm" / "model.safetensors"
    save_file({"norm.weight": torch.ones(32), "norm.bias": torch.ones(31)}, path)

    with pytest.raises(ModelError, match="has other sizes"):
        load(tmp_path)


def test_layers_must_fit_each_other(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"hidden_size": 32})
    add_modules(tmp_path, steps=[("Dense", DENSE), ("Dense", DENSE)])

    with pytest.raises(ModelError, match=r"its modules do not fit each other: .* 8 numbers, .* takes 32"):
        load(tmp_path)


def test_a_change_of_the_file_does_not_change_the_loaded_weights(folder: Path) -> None:
    head, vectors = load(folder), torch.ones(1, 32)
    before = head(vectors, None, None)

    path = folder / "2_Dense" / "model.safetensors"
    path.write_bytes(bytes(path.stat().st_size))

    assert torch.equal(head(vectors, None, None), before)


def test_the_cut_comes_before_the_normalization_that_a_batch_asks_for(folder: Path) -> None:
    head, vectors = load(folder), torch.randn(4, 32)

    assert torch.equal(head(vectors, None, 3), head(vectors, None, None)[:, :3])
    assert head(vectors, True, 3).norm(dim=1) == pytest.approx([1.0] * 4)
