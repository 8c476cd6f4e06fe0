"""Fused layers compute what they did before, and no others are fused."""

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from worker.layers import fused_gelu, onednn_linear
from worker.layers.onednn_linear import OneDnnGeluLinear

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
DISTIL_SIZES = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}


@pytest.fixture(autouse=True)
def _faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn_linear, "is_onednn_faster", lambda: True)


def model_of(kind: str, **options: Any) -> Any:
    if kind == "bert":
        return BertModel(BertConfig(vocab_size=99, **SIZES, **options)).eval()
    return DistilBertModel(DistilBertConfig(vocab_size=99, **DISTIL_SIZES, **options)).eval()


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@torch.inference_mode()
def test_a_model_with_fused_layers_answers_as_before(kind: str) -> None:
    model, ids = model_of(kind), torch.arange(40).view(2, 20)
    for parameter in model.parameters():
        parameter.mul_(4)  # so that a missing GELU shows
    expected = model(ids).last_hidden_state
    onednn_linear.use_onednn(model)

    assert fused_gelu.fuse(model) == 2

    assert torch.allclose(model(ids).last_hidden_state, expected, atol=1e-5)


@torch.inference_mode()
def test_a_number_that_is_none_stays_one() -> None:
    layer = torch.nn.Linear(4, 4)
    layer.__class__ = OneDnnGeluLinear

    assert torch.isnan(layer(torch.full((1, 4), torch.nan))).all()


@pytest.mark.parametrize("options", [{"hidden_act": "relu"}, {"hidden_act": "gelu_new"}])
def test_another_activation_stays_as_it_is(options: dict[str, Any]) -> None:
    model = model_of("bert", **options)
    onednn_linear.use_onednn(model)

    assert fused_gelu.fuse(model) == 0


def test_layers_in_another_precision_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn_linear, "is_bfloat16_supported", lambda: True)
    model = model_of("bert").bfloat16()
    onednn_linear.use_onednn(model)

    assert fused_gelu.fuse(model) == 0


class Twice(torch.nn.Module):
    """A module with the names of BERT's, which calls its activation on something else."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(8, 8)
        self.intermediate_act_fn = torch.nn.GELU()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.dense(self.intermediate_act_fn(states))


@torch.inference_mode()
def test_a_module_that_computes_something_else_is_left_as_it_was() -> None:
    model, states = torch.nn.Sequential(Twice()), torch.randn(1, 4, 8)
    expected = model(states)
    onednn_linear.use_onednn(model)

    assert fused_gelu.fuse(model) == 0

    assert torch.allclose(model(states), expected, atol=1e-5)
