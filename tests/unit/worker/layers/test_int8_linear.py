"""Int8 layers are close to float32, and a token's output does not depend on the rest of the pass."""

import copy

import pytest
import torch

from worker.layers import int8_linear
from worker.layers.int8_linear import Int8Linear

TOKENS, INNER, OUTER = 24, 96, 40


@pytest.fixture
def linear() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(INNER, OUTER)


def quantize(linear: torch.nn.Linear) -> torch.nn.Module:
    model = torch.nn.Sequential(linear)
    assert int8_linear.quantize(model) == 1
    return model


@pytest.fixture
def numbers() -> torch.Tensor:
    return torch.randn(2, TOKENS, INNER, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_is_near_float32_at_every_token(linear: torch.nn.Linear, numbers: torch.Tensor) -> None:
    numbers *= torch.logspace(-3, 3, TOKENS)[:, None]  # one range for all of these would lose the small ones
    expected = linear(numbers) - linear.bias

    off = quantize(linear)(numbers) - linear.bias - expected

    assert off.norm(dim=-1).div(expected.norm(dim=-1)).max() < 0.03


@torch.inference_mode()
def test_a_token_is_bit_by_bit_the_same_alone_and_beside_an_outlier(
    linear: torch.nn.Linear, numbers: torch.Tensor
) -> None:
    layer = quantize(linear)
    alone = layer(numbers[:1, :5])

    numbers[1] *= 1000

    assert torch.equal(layer(numbers)[:1, :5], alone)


@torch.inference_mode()
def test_zeros_give_the_bias_and_what_is_no_number_stays_none(linear: torch.nn.Linear) -> None:
    numbers = torch.zeros(3, INNER)
    numbers[1, 7], numbers[2, 7] = torch.nan, torch.inf

    given = quantize(linear)(numbers)

    assert torch.equal(given[0], linear.bias)
    assert not given[1:].isfinite().any()


@torch.inference_mode()
def test_takes_what_lies_crosswise_and_no_token_at_all(linear: torch.nn.Linear, numbers: torch.Tensor) -> None:
    layer, crosswise = quantize(linear), numbers.transpose(0, 1)

    assert torch.equal(layer(crosswise), layer(crosswise.contiguous()))
    assert layer(numbers[:0]).shape == (0, TOKENS, OUTER)


@torch.inference_mode()
def test_a_layer_without_bias(numbers: torch.Tensor) -> None:
    plain = torch.nn.Linear(INNER, OUTER, bias=False)
    expected = plain(numbers)
    assert torch.allclose(quantize(plain)(numbers), expected, atol=0.05)


@pytest.mark.parametrize("engines", [int8_linear.ENGINES, ()], ids=["ours", "torch's"])
@torch.inference_mode()
def test_computes_in_float32_where_asked_and_nowhere_else(
    linear: torch.nn.Linear, numbers: torch.Tensor, engines: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_linear, "ENGINES", engines)
    model = quantize(copy.deepcopy(linear))

    def rounding() -> float:
        """How far the layer is from one where sums in are sums out."""
        one, other = numbers
        return float((model(one + other) - model(one) - model(other) + linear.bias).abs().max())

    with int8_linear.float32_fallback(model):
        within = rounding()

    assert within < 1e-5 < 1e-3 < rounding()


class TestQuantize:
    def test_finds_linear_layers_wherever_they_are(self, linear: torch.nn.Linear) -> None:
        model = torch.nn.Sequential(torch.nn.Sequential(linear, torch.nn.GELU()), torch.nn.LayerNorm(OUTER))

        assert int8_linear.quantize(model) == 1
        assert isinstance(model[0][0], Int8Linear)

    def test_leaves_kinds_of_linear_layers_whose_weights_are_read_elsewhere(self) -> None:
        assert int8_linear.quantize(torch.nn.MultiheadAttention(16, 2)) == 0

    @pytest.mark.skipif("qnnpack" not in torch.backends.quantized.supported_engines, reason="no other kernels here")
    @torch.inference_mode()
    def test_where_the_kernels_are_other_ones_torchs_own_layers_serve(
        self, linear: torch.nn.Linear, numbers: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.backends.quantized, "engine", "qnnpack")
        model = torch.nn.Sequential(copy.deepcopy(linear))

        assert int8_linear.quantize(model) == 1

        assert torch.allclose(model(numbers), linear(numbers), atol=0.1)
