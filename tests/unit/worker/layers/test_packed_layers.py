"""Packed passes give every row the scores that it gets alone; models that can't be packed are padded."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers import pipeline

from tests.factories import tiny_encoders as encoders
from tests.factories import tiny_models
from tests.golden import qa_models as golden
from worker.adapters.rows import MicroBatch, Row
from worker.layers import onednn_linear, packed_attention
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.loading.runtime import Runtime

PACKED = ("bert", "distilbert", "roberta", "electra", "xlm-roberta", "camembert", "modernbert", "albert")
WORDS = ("love", "hate", "the", "great", "product", "it", "é", "terrible")
MAKERS: dict[str, Callable[..., Path]] = {
    "sentiment-analysis": encoders.nli_model,
    "zero-shot-classification": encoders.nli_model,
    "ner": encoders.token_classifier,
    "fill-mask": encoders.masked_lm,
}
# Weights of the usual size: tiny models are made with large ones, which multiply what rounding costs.
USUAL = {"initializer_range": 0.1}
# As weights are before training: texts then leave traces in each other that half precision's rounding could hide.
SMALL = {"initializer_range": 0.02}
NOTHING: Mapping[str, Any] = MappingProxyType({})
LENGTHS = (1, 9, 2, 2, 17, 30, 9, 9, 1, 200)

Load = Callable[..., Runtime]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Loads a tiny model of an architecture for a task, with what a catalogue entry may say."""
    base = tmp_path_factory.mktemp("packed")

    @cache
    def made(task: str, architecture: str, **config: Any) -> Path:
        return MAKERS[task](base / "-".join([task, architecture, *map(str, config.values())]), architecture, **config)

    def load(task: str, architecture: str = "bert", config: Mapping[str, Any] = NOTHING, **entry: Any) -> Runtime:
        folder = made(task, architecture, **config)
        return runtime.load(encoders.pipeline_for(folder, task, **entry), "cpu", threads=1)

    return load


def texts(lengths: Sequence[int], mask: str = "", seed: int = 0) -> list[str]:
    source = random.Random(seed)
    return [" ".join([*source.choices(WORDS, k=length), mask, *source.choices(WORDS, k=2)]) for length in lengths]


def encode_rows(loaded: Runtime, given: Sequence[str]) -> list[Row]:
    parameters = {"candidate_labels": ["great", "it"]} if loaded.version.task == "zero-shot-classification" else {}
    lease = Lease(1, "b", 0, len(given), 1, 1, parameters=parameters)
    jobs = [Job(lease, place, {"text": text}) for place, text in enumerate(given)]
    rows = [row for rows in loaded.adapter.encode(jobs) if isinstance(rows, list) for row in rows]
    return sorted(rows, key=lambda row: -row.length)


def scores(loaded: Runtime, rows: Sequence[Row]) -> list[torch.Tensor]:
    raw = loaded.adapter.forward(MicroBatch(tuple(rows)))
    return [
        torch.tensor(one[0]) if loaded.version.task == "fill-mask" else torch.as_tensor(one).softmax(-1) for one in raw
    ]


def max_difference(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))


@contextmanager
def attend_across_texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What sdpa does with texts in one row."""

    def across(query: Any, key: Any, value: Any, *_other: Any) -> torch.Tensor:
        states = (part.transpose(0, 1)[None] for part in (query, key, value))
        return scaled_dot_product_attention(*states)[0].transpose(0, 1)

    with monkeypatch.context() as patch:
        patch.setattr(packed_attention, "_sdpa_by_length", across)
        yield


class TestScores:
    @pytest.mark.parametrize("architecture", PACKED)
    @pytest.mark.parametrize("task", MAKERS)
    def test_are_those_of_each_row_alone(self, load: Load, task: str, architecture: str) -> None:
        packed, alone = load(task, architecture), load(task, architecture, attention="eager")
        mask = alone.adapter._tokenizer.mask_token if task == "fill-mask" else ""  # type: ignore[attr-defined]
        rows = encode_rows(packed, texts(LENGTHS, mask))

        assert packed.adapter.uses_packing
        assert not alone.adapter.uses_packing
        assert all(row.packed for row in rows)
        expected = [scores(alone, [row])[0] for row in rows]
        assert max_difference(scores(packed, rows), expected) < 1e-5
        assert max_difference(scores(packed, rows[:1]), expected[:1]) < 1e-5

    @pytest.mark.parametrize("rounds_tokens", [True, False])
    @pytest.mark.parametrize("architecture", ["bert", "modernbert"])
    def test_are_the_same_with_and_without_filler(
        self, load: Load, monkeypatch: pytest.MonkeyPatch, architecture: str, *, rounds_tokens: bool
    ) -> None:
        monkeypatch.setattr(onednn_linear, "is_onednn_faster", lambda: rounds_tokens)
        loaded, alone = load("ner", architecture), load("ner", architecture, attention="eager")
        rows = encode_rows(loaded, texts(LENGTHS))
        assert onednn_linear.padded_token_count(sum(row.length for row in rows)) > sum(row.length for row in rows)
        assert onednn_linear.is_used_in(loaded.model) is rounds_tokens

        expected = [scores(alone, [row])[0] for row in rows]

        assert max_difference(scores(loaded, rows), expected) < 1e-5

    @pytest.mark.parametrize("architecture", PACKED)
    def test_are_the_pipeline_s(self, load: Load, architecture: str) -> None:
        loaded = load("sentiment-analysis", architecture)
        reference = pipeline("text-classification", loaded.version.model, dtype=torch.float32, device="cpu")
        given = texts((1, 5, 2, 8, 8))

        rows = encode_rows(loaded, given)
        raw = loaded.adapter.forward(MicroBatch(tuple(rows)))
        answers = [loaded.adapter.decode([row], [one]) for row, one in zip(rows, raw, strict=True)]

        for row, answer in zip(rows, answers, strict=True):
            [expected] = reference(row.job.input["text"], truncation=True, max_length=loaded.adapter._limits.max_length)
            assert answer["label"] == expected["label"]
            assert answer["score"] == pytest.approx(expected["score"], abs=1e-5)

    def test_of_answers_to_questions_too(self, tmp_path: Path) -> None:
        folder = golden.bert(tmp_path)
        entry = tiny_models.pipeline_for(folder, task="question-answering")
        packed = runtime.load(entry, "cpu", threads=1)
        alone = runtime.load(entry.model_copy(update={"attention": "eager"}), "cpu", threads=1)
        context = "the river is in the city and the city is on the river. "
        asked = [{"question": "who was born in the city?"[: 7 * size], "context": context * size} for size in (1, 3, 2)]
        lease = Lease(1, "b", 0, 3, 1, 1)
        jobs = [Job(lease, place, document) for place, document in enumerate(asked)]
        rows = [row for rows in packed.adapter.encode(jobs) if isinstance(rows, list) for row in rows]

        assert packed.adapter.uses_packing
        assert len({row.length for row in rows}) > 1
        assert max_difference(scores(packed, rows), [scores(alone, [row])[0] for row in rows]) < 1e-5

    @settings(max_examples=40)
    @given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12), seed=st.integers(0, 9))
    def test_are_those_of_each_row_alone_for_any_mix(self, load: Load, lengths: list[int], seed: int) -> None:
        packed, alone = _pair(load)
        rows = encode_rows(packed, texts(lengths, seed=seed))

        assert max_difference(scores(packed, rows), [scores(alone, [row])[0] for row in rows]) < 1e-5

    @pytest.mark.parametrize("entry", [{}, {"dtype": "bfloat16"}])
    @pytest.mark.parametrize("task", MAKERS)
    def test_do_not_depend_on_other_rows(self, load: Load, task: str, entry: dict[str, str]) -> None:
        loaded = load(task, **entry)
        mask = "[MASK]" if task == "fill-mask" else ""
        one, other = texts(LENGTHS, mask, seed=1), texts(LENGTHS, mask, seed=2)
        mixed = [other[place] if place % 3 else text for place, text in enumerate(one)]
        before, after = encode_rows(loaded, one), encode_rows(loaded, mixed)
        assert [row.length for row in before] == [row.length for row in after]

        found = zip(before, scores(loaded, before), scores(loaded, after), strict=True)

        for row, usual, beside_others in found:
            assert torch.equal(usual, beside_others) is (row.job.position % 3 == 0)

    @pytest.mark.parametrize(
        ("entry", "allowed"),
        [({"dtype": "bfloat16"}, 0.01), ({"quantization": "int8"}, 0.02)],
        ids=["bfloat16", "int8"],
    )
    def test_are_close_in_low_precision(self, load: Load, entry: dict[str, str], allowed: float) -> None:
        packed, plain = load("ner", config=USUAL, **entry), load("ner", config=USUAL, attention="eager")
        rows = encode_rows(packed, texts(LENGTHS))

        assert packed.adapter.uses_packing
        assert max_difference(scores(packed, rows), [scores(plain, [row])[0] for row in rows]) < allowed


@cache
def _pair(load: Load) -> tuple[Runtime, Runtime]:
    return load("ner"), load("ner", attention="eager")


class TestFallback:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    @pytest.mark.parametrize("task", MAKERS)
    def test_pads_where_texts_would_see_each_other(
        self, load: Load, task: str, dtype: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with attend_across_texts(monkeypatch):
            loaded = load(task, config=SMALL, dtype=dtype)

        assert not loaded.adapter.uses_packing
        mask = "[MASK]" if task == "fill-mask" else ""
        rows = encode_rows(loaded, texts((3, 8), mask))
        assert not any(row.packed for row in rows)
        scores(loaded, rows)

    @pytest.mark.parametrize(
        ("architecture", "entry"),
        [("deberta-v2", {}), ("bert", {"attention": "eager"}), ("bert", {"deterministic": True})],
    )
    def test_pads_what_can_t_or_must_not_be_packed(self, load: Load, architecture: str, entry: dict[str, Any]) -> None:
        loaded = load("ner", architecture, **entry)

        assert not loaded.adapter.uses_packing

    def test_a_head_that_needs_every_position_gets_them(self, tmp_path: Path) -> None:
        folder = encoders.nli_model(tmp_path, "modernbert", classifier_pooling="mean")
        packed = runtime.load(tiny_models.pipeline_for(folder), "cpu", threads=1)
        alone = runtime.load(tiny_models.pipeline_for(folder, attention="eager"), "cpu", threads=1)
        rows = encode_rows(packed, texts(LENGTHS))

        assert packed.adapter.uses_packing
        assert max_difference(scores(packed, rows), [scores(alone, [row])[0] for row in rows]) < 1e-5


class TestTrouble:
    @pytest.mark.parametrize("place", ["attention", "last layer"])
    def test_leaves_nothing_behind(self, load: Load, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded = load("sentiment-analysis")
        rows = encode_rows(loaded, texts(LENGTHS))
        expected = scores(loaded, rows)

        def broken(*_given: Any) -> None:
            raise MemoryError

        with monkeypatch.context() as patch:
            if place == "attention":
                patch.setattr(packed_attention, "_sdpa_by_length", broken)
            else:
                patch.setattr(loaded.model.bert.encoder.layer[-1].output, "forward", broken)
            with pytest.raises(MemoryError):
                scores(loaded, rows)

        assert packed_attention.current_layout.get() is None
        assert loaded.model.config._attn_implementation == loaded.version.attention == "sdpa"
        assert all(torch.equal(*pair) for pair in zip(scores(loaded, rows), expected, strict=True))
