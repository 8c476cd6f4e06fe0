"""OneDNN's layers compute what torch's own do, and are used for float32 on a CPU only."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from transformers.pytorch_utils import Conv1D

from tests.factories import tiny_models
from worker.adapters.probes.small_copy import small_copies
from worker.layers import onednn_linear
from worker.layers.onednn_linear import OneDnnConv1D, OneDnnLinear
from worker.loading import runtime

INNER, OUTER = 96, 40

is_bfloat16_supported = onednn_linear.is_bfloat16_supported  # the fixture below replaces it


@pytest.fixture(autouse=True)
def _faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn_linear, "is_onednn_faster", lambda: True)
    monkeypatch.setattr(onednn_linear, "is_bfloat16_supported", lambda: True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "numbers",
    [
        torch.randn(3, 5, INNER),
        torch.randn(5, 3, INNER).transpose(0, 1),
        torch.randn(INNER),
        torch.randn(4, 2 * INNER)[:, ::2],
        torch.randn(3, 0, INNER),
    ],
    ids=["rows", "crosswise", "one", "with gaps", "none"],
)
@torch.inference_mode()
def test_answers_as_torchs_own_layer_does(numbers: torch.Tensor, *, bias: bool) -> None:
    layer = torch.nn.Linear(INNER, OUTER, bias=bias)
    expected = layer(numbers)

    assert onednn_linear.use_onednn(torch.nn.Sequential(layer)) == 1

    assert isinstance(layer, OneDnnLinear)
    assert torch.allclose(layer(numbers), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5, INNER), (40, INNER), (1, 1, INNER), (0, INNER)])
@torch.inference_mode()
def test_answers_as_the_transposed_layer_of_gpt2_does(shape: tuple[int, ...]) -> None:
    layer, numbers = Conv1D(OUTER, INNER), torch.randn(*shape)
    expected = layer(numbers)

    assert onednn_linear.use_onednn(torch.nn.Sequential(layer)) == 1

    assert isinstance(layer, OneDnnConv1D)
    assert torch.allclose(layer(numbers), expected, atol=1e-5)


@torch.inference_mode()
def test_answers_in_bfloat16_as_torchs_own_layer_does() -> None:
    layer, numbers = torch.nn.Linear(INNER, OUTER).bfloat16(), torch.randn(100, INNER).bfloat16()
    expected = layer(numbers)

    assert onednn_linear.use_onednn(torch.nn.Sequential(layer)) == 1

    assert torch.allclose(layer(numbers), expected, atol=2e-2)


def test_layers_that_share_their_weights_go_on_sharing_them() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(8, 4), torch.nn.Linear(4, 8, bias=False))
    model[1].weight = model[0].weight

    onednn_linear.use_onednn(model)

    assert model[1].weight is model[0].weight


def test_nothing_changes_where_torchs_own_product_is_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn_linear, "is_onednn_faster", lambda: False)
    layer = torch.nn.Linear(INNER, OUTER)

    assert onednn_linear.use_onednn(layer) == 0
    assert type(layer) is torch.nn.Linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_changes_where_torch_is_built_without_onednn(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(onednn_linear, "is_onednn_faster", lambda: False)
    monkeypatch.setattr(onednn_linear, "is_bfloat16_supported", is_bfloat16_supported)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())  # a look-up of any operator raises AttributeError
    layer = torch.nn.Linear(INNER, OUTER, dtype=dtype)

    assert onednn_linear.use_onednn(layer) == 0
    assert type(layer) is torch.nn.Linear


@pytest.mark.parametrize(
    ("entry", "expected"),
    [({}, True), ({"deterministic": True}, False), ({"dtype": "bfloat16"}, True), ({"dtype": "float16"}, False)],
)
def test_a_pipeline_in_a_dtype_of_onednn_gets_it_unless_it_promises_the_same_bits(
    tmp_path: Path, entry: dict[str, Any], *, expected: bool
) -> None:
    folder = tiny_models.distilbert(tmp_path / "model")
    model = runtime.load(tiny_models.pipeline_for(folder, **entry), "cpu", threads=1).model

    assert any(isinstance(module, OneDnnLinear) for module in model.modules()) is expected


@pytest.mark.parametrize("build_model", [tiny_models.gpt2, tiny_models.distilbert])
def test_probes_can_still_examine_the_model(tmp_path: Path, build_model: Callable[[Path], Path]) -> None:
    folder = build_model(tmp_path / "model")
    model = runtime.load(tiny_models.pipeline_for(folder), "cpu", threads=1).model

    assert onednn_linear.is_used_in(model)
    assert next(small_copies(model), None) is not None


@pytest.mark.parametrize(
    ("vendor", "capability", "expected"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("GenuineIntel", "AVX512", False),
        ("AuthenticAMD", "AVX2", False),
        (None, "AVX512", False),
    ],
)
def test_the_processor_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str | None, capability: str, *, expected: bool
) -> None:
    monkeypatch.undo()
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n" if vendor else "processor\t: 0\n")
    monkeypatch.setattr(onednn_linear, "CPUINFO_PATH", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)

    assert onednn_linear.is_onednn_faster.__wrapped__() is expected


class TestNumberOfShapes:
    def test_every_number_of_tokens_fits_with_little_filler(self) -> None:
        for tokens in range(1, 9_000):
            size = onednn_linear.padded_token_count(tokens)

            assert tokens <= size <= tokens + tokens // 16
            assert onednn_linear.padded_token_count(size) == size

    @pytest.mark.parametrize(
        "shape", [lambda tokens: (tokens,), lambda tokens: (1, tokens), lambda tokens: (tokens, 3)]
    )
    @torch.inference_mode()
    def test_the_library_sees_few(
        self, monkeypatch: pytest.MonkeyPatch, shape: Callable[[int], tuple[int, ...]]
    ) -> None:
        sizes: set[int] = set()
        multiply = onednn_linear._multiply

        def record_size(inputs: torch.Tensor, *others: Any) -> torch.Tensor:
            sizes.add(inputs.numel() // inputs.shape[-1])
            return multiply(inputs, *others)

        monkeypatch.setattr(onednn_linear, "_multiply", record_size)
        layer = torch.nn.Linear(2, 3)
        onednn_linear.use_onednn(layer)

        for tokens in range(1, 2_049):
            assert layer(torch.zeros(*shape(tokens), 2)).shape == (*shape(tokens), 3)

        assert len(sizes) <= 160

    @torch.inference_mode()
    def test_filler_changes_no_tokens_product(self) -> None:
        layer, numbers = torch.nn.Linear(INNER, OUTER), torch.randn(1_025, INNER)
        expected = layer(numbers)
        onednn_linear.use_onednn(layer)

        for tokens in (1, 33, 129, 1_025):
            assert torch.allclose(layer(numbers[:tokens]), expected[:tokens], rtol=0, atol=1e-5)

    @torch.inference_mode()
    def test_memory_stays_flat_over_many_numbers_of_tokens(self) -> None:
        layers = torch.nn.Sequential(torch.nn.Linear(56, 128), torch.nn.Linear(128, 56))
        onednn_linear.use_onednn(layers)
        numbers, process = torch.randn(2_048, 56), psutil.Process()
        for tokens in (2_048, *range(1_024, 2_048, 64)):
            layers(numbers[:tokens])
        memory = process.memory_info().rss

        for tokens in range(1_025, 2_048, 3):
            layers(numbers[:tokens])

        # With exact numbers of tokens it grew by 425 MB on a CPU with AVX-512.
        assert process.memory_info().rss - memory < 30e6
