"""torchao: which layers it takes, that rows never change each other, and the sentence where it can't run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, PerTensor

from models.errors import LoadFailed, ModelError
from models.hardware import processor
from tests.factories import tiny_models
from tests.factories.tiny_models import pipeline_for
from worker.adapters.rows import MicroBatch
from worker.layers import int8_linear, torchao_linear
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.loading.large_models import torchao_layers
from worker.loading.large_models.torchao_layers import METHODS, Method
from worker.loading.runtime import Runtime

LEASE = Lease(1, "b", 0, 4, 1, 1)
CPU = torch.device("cpu")
TEXTS = ("love it", "hate it, it is bad and it is bad", "good good good good good good good good good", "bad")
ADVICE = "pip install it"


def load(folder: Path, **entry: Any) -> Runtime:
    return runtime.load(pipeline_for(folder, **entry), "cpu", threads=1)


def scores(loaded: Runtime, *texts: str) -> list[float]:
    jobs = [Job(LEASE, place, {"text": text}) for place, text in enumerate(texts)]
    rows = [row for rows in loaded.adapter.encode(jobs) if isinstance(rows, list) for row in rows]
    raw = loaded.adapter.forward(MicroBatch(tuple(rows)))
    return [loaded.adapter.decode([row], [one])["score"] for row, one in zip(rows, raw, strict=True)]


def quantize_pass_by_pass() -> Any:
    return Int8DynamicActivationInt8WeightConfig(granularity=PerTensor(), set_inductor_config=False)


class TestRowsTogether:
    @pytest.mark.parametrize("deterministic", [False, True])
    @pytest.mark.parametrize("name", ["torchao-int8", "torchao-int8-weights"])
    def test_get_the_scores_that_they_get_alone(self, tmp_path: Path, name: str, deterministic: bool) -> None:
        loaded = load(tiny_models.distilbert(tmp_path / "model"), quantization=name, deterministic=deterministic)

        alone = [scores(loaded, text)[0] for text in TEXTS]

        tolerance = 0.0 if deterministic else 1e-5
        assert scores(loaded, *TEXTS) == pytest.approx(alone, abs=tolerance, rel=0)

    @pytest.mark.parametrize("name", ["torchao-int8", "torchao-int8-weights"])
    def test_are_packed_as_in_float32(self, tmp_path: Path, name: str) -> None:
        folder = tiny_models.distilbert(tmp_path / "model")

        assert load(folder).adapter.uses_packing
        assert load(folder, quantization=name).adapter.uses_packing

    def test_a_range_over_the_whole_pass_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(METHODS, "torchao-int8", Method(quantize_pass_by_pass, (8, 0)))

        with pytest.raises(LoadFailed, match="lets rows change each other's answers"):
            torchao_layers.quantize("torchao-int8", "it", with_dtype(torch.nn.Sequential(torch.nn.Linear(64, 64))), CPU)

    def test_a_range_over_the_whole_pass_is_known_from_the_weights(self) -> None:
        layers = torch.nn.Sequential(torch.nn.Linear(64, 64)), torch.nn.Sequential(torch.nn.Linear(64, 64))
        for model, config in zip(layers, (quantize_pass_by_pass, METHODS["torchao-int8"].make_config), strict=True):
            torchao_layers._quantize_layer(model[0], Method(config, (8, 0)))

        assert [int8_linear.is_quantized_across_rows(model) for model in layers] == [True, False]


class TestLayers:
    def test_one_of_another_size_keeps_its_dtype_if_it_is_small(self) -> None:
        body, head = torch.nn.Linear(64, 256), torch.nn.Linear(64, 3)

        torchao_layers.quantize("torchao-int8", "it", with_dtype(torch.nn.Sequential(body, head)), CPU)

        assert torchao_linear.is_quantized(body.weight)
        assert not torchao_linear.is_quantized(head.weight)

    def test_large_ones_of_another_size_are_a_sentence(self) -> None:
        model = with_dtype(torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 63)))

        with pytest.raises(ModelError, match="outputs of 8, but 1 of it has 64 and 63; take another quantization"):
            torchao_layers.quantize("torchao-int8", "it", model, CPU)

    def test_none_at_all_is_a_sentence(self) -> None:
        with pytest.raises(ModelError, match="it has no linear layers that torchao-int8-weights could quantize"):
            torchao_layers.quantize("torchao-int8-weights", "it", with_dtype(torch.nn.Sequential()), CPU)

    def test_one_that_shares_its_weights_keeps_them(self) -> None:
        first, second = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
        second.weight = first.weight
        model = with_dtype(torch.nn.Sequential(first, second, torch.nn.Linear(64, 64)))

        torchao_layers.quantize("torchao-int8-weights", "it", model, CPU)

        assert second.weight is first.weight
        assert not torchao_linear.is_quantized(first.weight)

    def test_size_is_that_of_the_parts(self) -> None:
        layer = torch.nn.Linear(64, 32)

        torchao_layers.quantize("torchao-int8-weights", "it", with_dtype(torch.nn.Sequential(layer)), CPU)

        assert torchao_linear.size_bytes(layer.bias) == 32 * 4
        assert 64 * 32 <= torchao_linear.size_bytes(layer.weight) < 64 * 32 * 4 / 2


class TestMachine:
    @pytest.mark.parametrize("name", ["torchao-int4-weights", "torchao-float8"])
    def test_a_cpu_without_the_kernel_is_a_sentence(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(LoadFailed, match=f"{name} needs a CUDA device; on a CPU there are int8"):
            load(tiny_models.distilbert(tmp_path / "model"), quantization=name)

    def test_a_cpu_without_vnni_is_a_sentence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processor, "_instructions", lambda: frozenset({"avx2"}))

        with pytest.raises(LoadFailed, match="needs a CPU with VNNI instructions; int8 and torchao-int8-weights"):
            load(tiny_models.distilbert(tmp_path / "model"), quantization="torchao-int8")

    def test_an_old_gpu_is_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 6))

        with pytest.raises(LoadFailed, match=r"needs a GPU of compute capability 8\.9; this one has 8\.6"):
            torchao_layers.check("torchao-float8", torch.device("cuda", 0), ADVICE)

    def test_a_missing_package_names_the_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "torchao.quantization", None)

        with pytest.raises(LoadFailed, match="torchao-int8-weights needs torchao; run: pip install it"):
            torchao_layers.check("torchao-int8-weights", CPU, ADVICE)

    def test_another_dtype_is_a_sentence(self) -> None:
        model = with_dtype(torch.nn.Sequential(torch.nn.Linear(64, 64)))

        with pytest.raises(LoadFailed, match='computes in bfloat16; set dtype = "bfloat16"'):
            torchao_layers.quantize("torchao-float8", "it", model, CPU)

    def test_a_kernel_that_fails_is_a_sentence(self) -> None:
        model = with_dtype(torch.nn.Sequential(torch.nn.Linear(64, 64)), torch.bfloat16)

        with pytest.raises(LoadFailed, match="torchao-float8 does not run on this machine: AssertionError"):
            torchao_layers.quantize("torchao-float8", "it", model, CPU)

    def test_files_that_are_quantized_already_are_refused(self, tmp_path: Path) -> None:
        folder = tiny_models.distilbert(tmp_path / "model")
        config = folder / "config.json"
        config.write_text(config.read_text().replace("{", '{"quantization_config": {"load_in_8bit": true},', 1))

        with pytest.raises(ModelError, match="is quantized in its files; leave quantization out"):
            load(folder, quantization="torchao-int8")


def with_dtype(model: Any, dtype: torch.dtype = torch.float32) -> Any:
    """A sequence of layers with the attribute of a model of transformers."""
    model = model.to(dtype)
    model.dtype = dtype
    return model
