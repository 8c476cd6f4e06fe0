"""The sameness probe: state that a model keeps is found and restored, and results are cached."""

import json
from pathlib import Path

import pytest
import torch

from models.errors import JobError
from tests.factories import tiny_architectures as made
from tests.factories import tiny_decoders, tiny_models
from tests.factories.forward_passes import encode_texts, forward_all, load_adapter
from worker.adapters.probes import sameness
from worker.adapters.probes.sharing import Sharing, SharingPolicy
from worker.layers import onednn_linear
from worker.layers.model_state import ModelState
from worker.leasing.leases import Job, Lease
from worker.loading import runtime


class TestModelState:
    def test_restores_what_a_short_text_changed(self, tmp_path: Path) -> None:
        made.save_random_model(tmp_path, "sentiment-analysis", "big_bird")
        adapter = runtime.load(made.pipeline_for(tmp_path, "sentiment-analysis"), "cpu", threads=1).adapter
        model = adapter._pipeline.model  # type: ignore[attr-defined]
        adapter._encoder._state_to_restore.restore()  # type: ignore[attr-defined]
        state = ModelState(model)

        model(input_ids=torch.ones(1, 3, dtype=torch.long))
        changed = state.changed_classes()
        state.restore()

        assert "BigBirdEncoder" in changed
        assert not state.changed_classes()
        assert model.base_model.attention_type == "block_sparse"

    def test_restores_buffers_that_were_overwritten(self) -> None:
        model = torch.nn.BatchNorm1d(2)
        state = ModelState(model)

        model(torch.ones(3, 2) * 5)
        observed = state.changed_classes()
        state.restore()

        assert observed == {"BatchNorm1d"}
        assert model.running_mean is not None
        assert model.running_mean.tolist() == [0.0, 0.0]


class TestSharing:
    def test_is_free_below_the_length_at_which_a_model_switches(self) -> None:
        found = SharingPolicy(Sharing.BY_LENGTH, always_together_tokens=24)

        assert found.sharing_for(24) is Sharing.TOGETHER
        assert found.sharing_for(25) is Sharing.BY_LENGTH
        assert found.sharing_for(24, fixed_shape=True) is Sharing.BY_LENGTH

    def test_does_not_depend_on_what_multiplies_gpt2_s_layers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(onednn_linear, "is_onednn_faster", lambda: True)

        adapter = load_adapter(tiny_decoders.gpt2(tmp_path / "model"))

        assert onednn_linear.is_used_in(adapter._pipeline.model)
        assert adapter._sharing_policy.sharing is Sharing.TOGETHER

    def test_is_found_once_for_a_configuration(self, tmp_path: Path) -> None:
        folder = tiny_models.bert(tmp_path)
        runtime.load(tiny_models.pipeline_for(folder), "cpu", threads=1)
        before = sameness._examine.cache_info().misses

        runtime.load(tiny_models.pipeline_for(folder), "cpu", threads=1)

        assert sameness._examine.cache_info().misses == before

    def test_leaves_torch_s_random_state_unchanged(self, tmp_path: Path) -> None:
        folder = tiny_models.bert(tmp_path)
        sameness._examine.cache_clear()
        torch.manual_seed(7)
        expected = torch.rand(1)
        torch.manual_seed(7)

        runtime.load(tiny_models.pipeline_for(folder), "cpu", threads=1)

        assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    "generation",
    [
        {"do_sample": False, "temperature": 0.0},
        {"do_sample": True, "temperature": 0.0},
        {"do_sample": False, "temperature": 0.0, "top_k": -1, "typical_p": 0.0, "top_p": 0.0},
        {"do_sample": True, "temperature": 0.0, "num_beams": 1, "top_k": -1},
    ],
    ids=str,
)
def test_a_generation_config_that_means_the_likeliest_token_gets_it(
    tmp_path: Path, generation: dict[str, object]
) -> None:
    plain = load_adapter(tiny_decoders.llama(tmp_path / "plain", generation={"do_sample": False}))
    folder = tiny_decoders.llama(tmp_path / "odd")
    (folder / "generation_config.json").write_text(json.dumps(generation))  # transformers would not write this one
    odd = load_adapter(folder)
    texts = ["a", "love it", "the loved"]

    found = forward_all(odd, encode_texts(odd, texts, max_new_tokens=9))

    assert found == forward_all(plain, encode_texts(plain, texts, max_new_tokens=9))


@pytest.mark.parametrize("architecture", ["eurobert", "bloom"])
def test_a_single_score_near_0_is_no_sign_of_other_rows(tmp_path: Path, architecture: str) -> None:
    made.save_random_model(tmp_path, "text-ranking", architecture)

    adapter = runtime.load(made.pipeline_for(tmp_path, "text-ranking"), "cpu", threads=1).adapter

    assert adapter._encoder._sharing_policy.sharing is Sharing.TOGETHER  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "task", ["sentiment-analysis", "ner", "fill-mask", "zero-shot-classification", "question-answering", "text-ranking"]
)
def test_a_word_past_the_embeddings_costs_its_row_alone(tmp_path: Path, task: str) -> None:
    made.save_random_model(tmp_path, task, "bert")
    adapter = runtime.load(made.pipeline_for(tmp_path, task), "cpu", threads=1).adapter
    # From here on the words behind this one are past the embeddings.
    adapter._encoder._vocabulary_size = tiny_models.WORDPIECE_VOCABULARY.index("love") + 1  # type: ignore[attr-defined]
    words = ["love", "product"]
    inputs = {
        "question-answering": [{"question": "b", "context": word} for word in words],
        "fill-mask": [{"text": f"{word} [MASK]"} for word in words],
        "text-ranking": [{"query": "b", "texts": ["b", word]} for word in words],
    }.get(task, [{"text": word} for word in words])
    lease = Lease(1, "b", 0, 2, 1, 1, parameters={"candidate_labels": ["love"]} if task.startswith("zero") else {})

    good, bad = adapter.encode([Job(lease, place, given) for place, given in enumerate(inputs)])

    assert not isinstance(good, JobError)
    assert isinstance(bad, JobError)
    assert bad.code == "unknown_token"
