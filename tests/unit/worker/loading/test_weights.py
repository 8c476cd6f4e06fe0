"""Weights: which models are refused for a task, in which precision they come, and on which device."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ModernBertConfig, ModernBertForTokenClassification

from models.errors import LoadFailed, ModelError
from tests.factories import tiny_models
from tests.factories.tiny_models import pipeline_for
from worker.adapters.rows import MicroBatch
from worker.leasing.leases import Job, Lease
from worker.loading import runtime, weights
from worker.loading.runtime import Runtime

LEASE = Lease(1, "b", 0, 4, 1, 1)


def load(folder: Path, **entry: Any) -> Runtime:
    return runtime.load(pipeline_for(folder, **entry), "cpu", threads=1)


def scores(loaded: Runtime, *texts: str) -> list[dict[str, Any]]:
    jobs = [Job(LEASE, place, {"text": text}) for place, text in enumerate(texts)]
    rows = [row for rows in loaded.adapter.encode(jobs) if isinstance(rows, list) for row in rows]
    raw = loaded.adapter.forward(MicroBatch(tuple(rows)))
    return [loaded.adapter.decode([row], [one]) for row, one in zip(rows, raw, strict=True)]


class TestArchitecture:
    def test_a_head_for_another_task_is_refused_though_its_weights_bear_the_same_names(self, tmp_path: Path) -> None:
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        ids = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        config = ModernBertConfig(vocab_size=len(tiny_models.WORDPIECE_VOCABULARY), **sizes, **ids)
        folder = tiny_models.save(
            tmp_path / "model", ModernBertForTokenClassification(config), tiny_models.wordpiece_tokenizer()
        )

        with pytest.raises(ModelError, match="ForTokenClassification, which is not a model for this task"):
            load(folder)

    def test_a_config_that_names_none_is_taken_at_its_weights(self, tmp_path: Path) -> None:
        folder = tiny_models.distilbert(tmp_path / "model")
        config = folder / "config.json"
        config.write_text(config.read_text().replace('"DistilBertForSequenceClassification"', ""))

        assert load(folder).version.dtype == "float32"


class TestQuantization:
    def test_int8_on_a_cpu_stays_near_and_is_recorded(self, tmp_path: Path) -> None:
        folder = tiny_models.distilbert(tmp_path / "model")

        plain, small = load(folder), load(folder, quantization="int8")

        assert (plain.version.quantization, small.version.quantization) == (None, "int8")
        assert plain.weight_bytes / 4 < small.weight_bytes < plain.weight_bytes
        [one], [other] = scores(plain, "love it"), scores(small, "love it")
        assert other["score"] == pytest.approx(one["score"], abs=0.1)
        assert other["score"] != one["score"]

    @pytest.mark.parametrize(
        ("entry", "sentence"),
        [
            ({"quantization": "int4"}, "int4 needs a CUDA device; on a CPU there are int8, torchao-int8"),
            ({"quantization": "int8", "dtype": "bfloat16"}, "float32 only"),
        ],
    )
    def test_what_the_machine_cannot_do_is_a_sentence(self, tmp_path: Path, entry: Any, sentence: str) -> None:
        with pytest.raises(LoadFailed, match=sentence):
            load(tiny_models.distilbert(tmp_path / "model"), **entry)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    @pytest.mark.parametrize("name", ["torchao-int8", "torchao-int8-weights"])
    def test_torchao_on_a_cpu_stays_near_and_is_recorded(self, tmp_path: Path, name: str, dtype: str) -> None:
        folder = tiny_models.distilbert(tmp_path / "model")

        plain, small = load(folder), load(folder, quantization=name, dtype=dtype)

        assert (small.version.quantization, small.version.dtype) == (name, dtype)
        assert "torchao" in small.version.libraries
        assert small.weight_bytes < plain.weight_bytes
        [one], [other] = scores(plain, "love it"), scores(small, "love it")
        assert other["score"] == pytest.approx(one["score"], abs=0.1)
        assert other["score"] != one["score"]


class TestAttention:
    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    def test_is_the_one_asked_for_and_recorded(self, tmp_path: Path, attention: str) -> None:
        assert load(tiny_models.bert(tmp_path / "model"), attention=attention).version.attention == attention

    def test_one_that_is_not_there_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(LoadFailed, match="a package is missing"):
            load(tiny_models.bert(tmp_path / "model"), attention="flash_attention_2")


class TestDevice:
    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
    @pytest.mark.parametrize("name", ["cuda", "cuda:1"])
    def test_one_that_is_not_there_is_a_sentence(self, name: str) -> None:
        with pytest.raises(LoadFailed, match=f"device {name} is not on this machine"):
            weights.resolve_device(name)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
    def test_one_that_torch_can_t_see_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
        monkeypatch.setattr(torch.version, "cuda", None)

        with pytest.raises(LoadFailed, match=r"\(CUDA_VISIBLE_DEVICES is '5'\), or not for this build of torch, which"):
            weights.resolve_device("cuda:0")
