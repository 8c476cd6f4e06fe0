"""An adapter's layers: outputs are peft's own, and nothing of the model beneath is changed."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from transformers.utils import is_peft_available

from models.errors import ModelError
from models.pipelines.folder_hash import content_hash
from models.pipelines.pipeline import SAMPLES_FOLDER
from tests.factories import tiny_models
from tests.factories.lora_adapters import adapter_for, edit_config, peft_model
from tests.factories.tiny_models import pipeline_for
from worker.adapters.rows import MicroBatch
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.loading.runtime import Runtime

TEXTS = ("love it", "the terrible product hate", "it", "a great product and it is the product")
LEASE = Lease(1, "b", 0, 4, 1, 1)
WEIGHTS = "adapter_model.safetensors"

Made = Callable[[str], Path]


def load(base: Path, adapter: Path | None, **entry: Any) -> Runtime:
    fields = {} if adapter is None else {"adapter": str(adapter)}
    return runtime.load(pipeline_for(base, **fields, **entry), "cpu", threads=1)


def scores(loaded: Runtime, texts: tuple[str, ...] = TEXTS) -> list[dict[str, Any]]:
    jobs = [Job(LEASE, place, {"text": text}) for place, text in enumerate(texts)]
    rows = [row for rows in loaded.adapter.encode(jobs) if isinstance(rows, list) for row in rows]
    raw = loaded.adapter.forward(MicroBatch(tuple(rows)))
    return [loaded.adapter.decode([row], [one]) for row, one in zip(rows, raw, strict=True)]


def expected(base: Path, adapter: Path, **options: Any) -> list[float]:
    model, tokenizer = peft_model(base, adapter, **options), AutoTokenizer.from_pretrained(base)
    with torch.inference_mode():
        logits = [model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS]
    return [float(each.softmax(-1).max()) for each in logits]


class TestOutputs:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"target_modules": "all-linear"},
            {"target_modules": ["query", "word_embeddings"]},
            {"use_rslora": True, "rank_pattern": {"query": 2}, "alpha_pattern": {"value": 3}},
            {"layers_to_transform": [1], "lora_dropout": 0.5},
            {"use_dora": True},
            {"bias": "all"},
            {"lora_bias": True},
        ],
        ids=lambda options: "+".join(options) or "plain",
    )
    @pytest.mark.filterwarnings("ignore")
    def test_equal_those_of_peft(self, made: Made, tmp_path: Path, options: dict[str, Any]) -> None:
        base = made("bert")
        adapter = adapter_for(base, tmp_path / "adapter", **options)

        loaded = load(base, adapter)

        assert loaded.adapter.uses_packing
        assert [score["score"] for score in scores(loaded)] == pytest.approx(expected(base, adapter), abs=1e-5)

    @pytest.mark.parametrize("architecture", ["distilbert", "roberta", "gpt2"])
    def test_equal_those_of_peft_for_other_models(self, made: Made, tmp_path: Path, architecture: str) -> None:
        base = made(architecture)
        targets = {"distilbert": ["q_lin", "lin1"], "roberta": ["query"], "gpt2": ["c_attn"]}[architecture]
        adapter = adapter_for(base, tmp_path / "adapter", target_modules=targets, fan_in_fan_out=architecture == "gpt2")

        loaded = load(base, adapter)

        assert [score["score"] for score in scores(loaded)] == pytest.approx(expected(base, adapter), abs=1e-5)

    def test_stay_near_in_int8(self, made: Made, tmp_path: Path) -> None:
        base = made("bert")
        adapter = adapter_for(base, tmp_path / "adapter")

        loaded = load(base, adapter, quantization="int8")

        assert [score["score"] for score in scores(loaded)] == pytest.approx(expected(base, adapter), abs=0.1)
        [alone], [*together] = scores(loaded, TEXTS[:1]), scores(loaded)
        assert together[0]["score"] == pytest.approx(alone["score"], abs=1e-5)

    def test_do_not_depend_on_the_other_rows(self, made: Made, tmp_path: Path) -> None:
        base = made("bert")
        loaded = load(base, adapter_for(base, tmp_path / "adapter"), deterministic=True)

        assert scores(loaded) == [scores(loaded, (text,))[0] for text in TEXTS]


@pytest.mark.parametrize(
    ("task", "auto_class", "task_type", "targets"),
    [
        ("text-generation", AutoModelForCausalLM, "CAUSAL_LM", "all-linear"),
        ("summarization", AutoModelForSeq2SeqLM, "SEQ_2_SEQ_LM", "all-linear"),
        ("ner", AutoModelForTokenClassification, "TOKEN_CLS", ["q_lin", "lin1"]),
        ("question-answering", AutoModelForQuestionAnswering, "QUESTION_ANS", ["query"]),
        ("fill-mask", AutoModelForMaskedLM, None, ["q_lin"]),
        ("feature-extraction", AutoModel, "FEATURE_EXTRACTION", ["query"]),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_every_kind_of_task_takes_one(
    tmp_path: Path, task: str, auto_class: Any, task_type: str | None, targets: Any
) -> None:
    base = SAMPLES_FOLDER / task
    adapter = adapter_for(
        base, tmp_path / "adapter", auto_class=auto_class, task_type=task_type, target_modules=targets
    )
    inputs = dict(AutoTokenizer.from_pretrained(base)("I love it", return_tensors="pt"))
    if task == "summarization":
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        inputs["decoder_input_ids"] = inputs["input_ids"]

    loaded, plain = (load(base, each, task=task) for each in (adapter, None))

    with torch.inference_mode():
        output, without = (each.model(**inputs)[0] for each in (loaded, plain))
        expected_output = peft_model(base, adapter, auto_class).base_model.model(**inputs)[0]
    assert torch.allclose(output, expected_output, atol=1e-4)
    assert not torch.allclose(output, without, atol=1e-2)


@pytest.mark.parametrize("quantization", [None, "int8"])
@pytest.mark.parametrize("options", [{}, {"modules_to_save": ["embed_tokens"]}], ids=["beneath a layer", "in full"])
@pytest.mark.filterwarnings("ignore")
def test_saved_embeddings_reach_a_tied_output_layer_as_in_peft(
    tmp_path: Path, options: dict[str, Any], quantization: str | None
) -> None:
    base = SAMPLES_FOLDER / "text-generation"
    targets = ["q_proj"] if options else ["embed_tokens"]
    adapter = adapter_for(
        base,
        tmp_path / "adapter",
        auto_class=AutoModelForCausalLM,
        task_type="CAUSAL_LM",
        target_modules=targets,
        **options,
    )
    tensors = load_file(adapter / WEIGHTS)
    assert any(name.endswith(("base_layer.weight", "embed_tokens.weight")) for name in tensors)
    torch.manual_seed(1)
    save_file(
        {name: tensor if "lora_" in name else torch.randn_like(tensor) for name, tensor in tensors.items()},
        adapter / WEIGHTS,
    )
    inputs = AutoTokenizer.from_pretrained(base)("I love it", return_tensors="pt")["input_ids"]
    entry = {"task": "text-generation", "quantization": quantization}
    plain = load(base, None, **entry)
    with torch.inference_mode():
        before = plain.model(input_ids=inputs).logits

        output = load(base, adapter, **entry).model(input_ids=inputs).logits
        of_peft = peft_model(base, adapter, AutoModelForCausalLM).base_model.model(input_ids=inputs).logits

        assert torch.equal(plain.model(input_ids=inputs).logits, before)
    difference = (output - of_peft).abs().max() / of_peft.abs().max()
    assert difference < (1e-5 if quantization is None else 0.1)


class TestHead:
    def test_other_labels_than_those_of_the_model_are_the_adapter_s(self, made: Made, tmp_path: Path) -> None:
        base = made("bert")
        adapter = adapter_for(base, tmp_path / "adapter", load_options={"num_labels": 3})
        (adapter / "config.json").write_text('{"id2label": {"0": "BAD", "1": "FAIR", "2": "GOOD"}}')

        loaded = load(base, adapter)

        assert [score["score"] for score in scores(loaded)] == pytest.approx(
            expected(base, adapter, num_labels=3), abs=1e-5
        )
        assert {score["label"] for score in scores(loaded)} <= {"BAD", "FAIR", "GOOD"}
        assert load(base, None).model.config.num_labels == 2

    def test_a_model_without_one_takes_the_adapter_s(self, tmp_path: Path) -> None:
        base = tiny_models.masked_bert(tmp_path / "base")
        adapter = adapter_for(base, tmp_path / "adapter", modules_to_save=["classifier", "pooler"])

        loaded = load(base, adapter)

        assert [score["score"] for score in scores(loaded)] == pytest.approx(expected(base, adapter), abs=1e-5)

    def test_a_model_without_one_is_refused_if_the_adapter_lacks_a_part(self, tmp_path: Path) -> None:
        base = tiny_models.masked_bert(tmp_path / "base")
        adapter = adapter_for(base, tmp_path / "adapter")

        with pytest.raises(ModelError, match=r"it has no weights for bert.pooler.dense.bias.*, and neither has"):
            load(base, adapter)


class TestRefusals:
    def test_weights_of_another_shape(self, made: Made, tmp_path: Path) -> None:
        adapter = adapter_for(made("bert"), tmp_path / "adapter")
        tensors = load_file(adapter / WEIGHTS)
        save_file({name: tensor[..., :8].clone() for name, tensor in tensors.items()}, adapter / WEIGHTS)

        with pytest.raises(ModelError, match=r"in the shape .*; name the model that it was trained on"):
            load(made("bert"), adapter)

    def test_layers_that_the_model_lacks(self, made: Made, tmp_path: Path) -> None:
        adapter = adapter_for(made("distilbert"), tmp_path / "adapter", target_modules=["q_lin"])

        with pytest.raises(ModelError, match=r"adapter has weights for pre_classifier\.\w+, which the model lacks"):
            load(made("bert"), adapter)

    def test_weights_without_a_layer(self, made: Made, tmp_path: Path) -> None:
        adapter = edit_config(adapter_for(made("bert"), tmp_path / "adapter"), target_modules=["value"])

        with pytest.raises(ModelError, match="has weights without a layer"):
            load(made("bert"), adapter)

    def test_layers_without_weights(self, made: Made, tmp_path: Path) -> None:
        adapter = adapter_for(made("bert"), tmp_path / "adapter")
        tensors = load_file(adapter / WEIGHTS)
        save_file(
            {name: tensor for name, tensor in tensors.items() if "layer.1.attention.self.query" not in name},
            adapter / WEIGHTS,
        )

        with pytest.raises(ModelError, match="lacks weights"):
            load(made("bert"), adapter)

    def test_a_head_that_the_configuration_names_and_the_file_lacks(self, made: Made, tmp_path: Path) -> None:
        adapter = adapter_for(made("bert"), tmp_path / "adapter")
        tensors = load_file(adapter / WEIGHTS)
        save_file(
            {name: tensor for name, tensor in tensors.items() if "classifier.bias" not in name}, adapter / WEIGHTS
        )

        with pytest.raises(ModelError, match=r"lacks weights for classifier\.bias"):
            load(made("bert"), adapter)

    @pytest.mark.parametrize("rows", [{"weight": 0, "bias": 0}, {"weight": 5, "bias": 2}])
    def test_a_head_without_a_bias_for_each_row(self, made: Made, tmp_path: Path, rows: dict[str, int]) -> None:
        adapter = adapter_for(made("bert"), tmp_path / "adapter", load_options={"num_labels": 5})
        tensors = load_file(adapter / WEIGHTS)
        for part, count in rows.items():
            name = f"base_model.model.classifier.{part}"
            tensors[name] = tensors[name][:count].clone()
        save_file(tensors, adapter / WEIGHTS)

        with pytest.raises(ModelError, match=r"adapter gives classifier . rows and . biases; save the adapter again"):
            load(made("bert"), adapter)

    @pytest.mark.parametrize(
        "options",
        [
            {"rank_pattern": ["a"]},
            {"rank_pattern": {"(": 2}},
            {"target_modules": "("},
            {"target_modules": ".*query", "layers_to_transform": [1]},
            {"r": "four"},
            {"r": 2},
        ],
        ids=str,
    )
    def test_options_that_peft_can_t_use_are_the_adapter_s_fault(
        self, made: Made, tmp_path: Path, options: dict[str, Any]
    ) -> None:
        adapter = edit_config(adapter_for(made("bert"), tmp_path / "adapter"), **options)

        with pytest.raises(ModelError, match=r"/adapter does not fit its model: .*[^:]$"):
            load(made("bert"), adapter)

    def test_dora_in_int8(self, made: Made, tmp_path: Path) -> None:
        adapter = adapter_for(made("bert"), tmp_path / "adapter", use_dora=True)

        with pytest.raises(ModelError, match="is DoRA, which needs the weights in float"):
            load(made("bert"), adapter, quantization="int8")


class TestSharing:
    @pytest.mark.parametrize("quantization", [None, "int8"])
    def test_weights_are_shared_and_outputs_are_not_mixed_up(
        self, made: Made, tmp_path: Path, quantization: str | None
    ) -> None:
        base = made("bert")
        adapters = [adapter_for(base, tmp_path / f"adapter-{seed}", seed=seed) for seed in range(2)]
        alone = [scores(load(base, adapter, quantization=quantization)) for adapter in (None, *adapters)]

        loaded = [load(base, adapter, quantization=quantization) for adapter in (None, *adapters)]

        embeddings = [each.model.get_input_embeddings().weight for each in loaded]
        assert embeddings[0] is embeddings[1] is embeddings[2]
        assert loaded[1].shared_sizes.keys() <= loaded[0].shared_sizes.keys()
        of_all = [sum(each.shared_sizes.values()) for each in loaded]
        assert of_all[0] > 0.9 * loaded[0].weight_bytes
        assert of_all[1] == of_all[2] > 0.8 * of_all[0]  # the rest is a head, which each adapter has
        assert run_at_once(loaded) == alone
        assert alone[0] != alone[1] != alone[2]

    @pytest.mark.parametrize("options", [{"bias": "all"}, {"target_modules": ["word_embeddings"]}], ids=str)
    @pytest.mark.filterwarnings("ignore")
    def test_an_adapter_changes_no_weight_of_the_model(
        self, made: Made, tmp_path: Path, options: dict[str, Any]
    ) -> None:
        base = made("bert")
        adapter = adapter_for(base, tmp_path / "adapter", **options)
        tensors = load_file(adapter / WEIGHTS)
        save_file({name: tensor + 0.25 for name, tensor in tensors.items()}, adapter / WEIGHTS)
        plain = load(base, None)
        before = [parameter.clone() for parameter in plain.model.parameters()]
        earlier = scores(plain)

        adapted = load(base, adapter)

        assert scores(adapted) != earlier
        assert all(map(torch.equal, before, plain.model.parameters()))
        assert scores(plain) == earlier

    def test_a_guard_shares_the_weights_of_its_pipeline(self, made: Made, tmp_path: Path) -> None:
        base = made("bert")
        adapter = adapter_for(base, tmp_path / "adapter")
        guard = {"on": "input", "action": "fail", "pipeline": "checker", "label": "LABEL_1"}
        checker = pipeline_for(base, name="checker", adapter=str(adapter))
        guarded = pipeline_for(base, guards={"tone": guard}).with_guard_pipelines({"checker": checker})

        loaded = runtime.load(guarded, "cpu", threads=1)

        of_guard = loaded.guards["checker"]
        assert of_guard.model.get_input_embeddings().weight is loaded.model.get_input_embeddings().weight
        alone = load(base, None).weight_bytes
        assert loaded.weight_bytes == alone + of_guard.weight_bytes - sum(of_guard.shared_sizes.values())
        assert of_guard.version.adapter_revision == content_hash(adapter)

    def test_peft_stays_hidden_from_transformers(self, made: Made, tmp_path: Path) -> None:
        load(made("bert"), adapter_for(made("bert"), tmp_path / "adapter"))

        assert not is_peft_available()


def run_at_once(loaded: list[Runtime]) -> list[list[dict[str, Any]]]:
    """Score the texts with all of them at once, several times, and return the last scores."""
    results: dict[int, list[list[dict[str, Any]]]] = {place: [] for place in range(len(loaded))}

    def work(place: int) -> None:
        for _ in range(5):
            results[place].append(scores(loaded[place]))

    threads = [threading.Thread(target=work, args=(place,)) for place in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each == runs[0] for runs in results.values() for each in runs)
    return [runs[-1] for runs in results.values()]
