"""Entities found in arrays are those that transformers' pipeline finds token by token, to the last bit."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer, TokenClassificationPipeline
from transformers.pipelines.token_classification import AggregationStrategy

from models.documents import to_json
from tests.factories import tiny_encoders as encoders
from worker.adapters.outputs.entities import EntityFinder, EntityOptions, TaggedTexts, entities_to_json, label_names

LABELS = (
    encoders.NER_LABELS,
    ("B-PER", "I-PER", "B-LOC"),
    ("", "B-", "I-", "-", "B-B-X", "I-B-X", "a-b-c", "c", 'quo"te', "名\u2028", "o", "O"),
    ("O",),
    ("PER",),
)
TOKENIZERS = ("bert", "roberta", "xlm-roberta", "slow")
TEXTS = st.text(
    st.one_of(
        st.sampled_from("love hate great product the ing a b c .,-'"),
        st.sampled_from("世界é\u0301خ😀\u200d\u202eﬁ\n\t\0İ"),
    ),
    max_size=30,
)


@cache
def tokenizer_for(name: str) -> Any:
    return ByT5Tokenizer() if name == "slow" else encoders.tokenizer_for(name)


def reference(tokenizer: Any, labels: tuple[str, ...], text: str, tokens: Any, logits: Any, **options: Any) -> Any:
    """The pipeline's answer without a model."""
    pipeline = TokenClassificationPipeline.__new__(TokenClassificationPipeline)
    pipeline.tokenizer = tokenizer
    pipeline.model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate(labels))))  # type: ignore[assignment]
    framed = {
        "logits": torch.from_numpy(np.concatenate([logits[:1], logits, logits[:1]]))[None],
        "sentence": text,
        "input_ids": [[0, *tokens["input_ids"], 0]],
        "offset_mapping": [[(0, 0), *tokens["offset_mapping"], (0, 0)]] if "offset_mapping" in tokens else None,
        "special_tokens_mask": torch.tensor([[1, *[0] * len(logits), 1]]),
    }
    return [{**entity, "score": float(entity["score"])} for entity in pipeline.postprocess([framed], **options)]


def joined(texts: list[str], tokens: list[Any], logits: list[Any]) -> TaggedTexts:
    offsets = [np.array(item["offset_mapping"], np.int32).reshape(-1, 2) for item in tokens if "offset_mapping" in item]
    starts, ends = np.concatenate(offsets).T if offsets else (None, None)
    return TaggedTexts(
        texts=texts,
        edges=np.cumsum([0, *map(len, logits)]),
        ids=np.concatenate([np.array(item["input_ids"], np.int64) for item in tokens]),
        logits=np.concatenate(logits),
        starts=starts,
        ends=ends,
        first_index=1,
    )


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words", "ignore:overflow encountered")
@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=20, deadline=None)
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=4),
    labels=st.sampled_from(LABELS),
    ignored=st.lists(st.sampled_from(["O", "PER", "B-PER", "", "c", "B-X"]), max_size=2),
    spread=st.sampled_from([0.0, 1e-40, 0.5, 3.0, 300.0, 3.4e38]),
    seed=st.integers(0, 99),
)
def test_entities_are_the_pipeline_s(
    name: str, strategy: str, texts: list[str], labels: tuple[str, ...], ignored: list[str], spread: float, seed: int
) -> None:
    tokenizer = tokenizer_for(name)
    strategy = "simple" if name == "slow" and strategy != "none" else strategy
    tokens = [
        tokenizer(text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast, truncation=False)
        for text in texts
    ]
    rng = np.random.default_rng(seed)
    # Few different scores, so that some are equal.
    sizes = [(len(item["input_ids"]), len(labels)) for item in tokens]
    logits = [(rng.integers(-4, 5, size) / 4 * spread).astype(np.float32) for size in sizes]
    options = EntityOptions(strategy, frozenset(ignored))

    found = EntityFinder(tokenizer, labels).find(joined(texts, tokens, logits), options)

    for text, item, scores, entities in zip(texts, tokens, logits, found, strict=True):
        wanted = []
        if len(scores):
            wanted = reference(
                tokenizer,
                labels,
                text,
                item,
                scores,
                aggregation_strategy=AggregationStrategy(strategy),
                ignore_labels=ignored,
            )
        assert entities_to_json(entities, options) == to_json(wanted)


@pytest.mark.parametrize("strategy", ["simple", "average", "max"])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 128, 129, 300, 1_000])
def test_scores_of_long_runs_have_the_pipeline_s_bits(strategy: str, length: int) -> None:
    tokenizer, labels, text = tokenizer_for("bert"), ("B-PER", "I-PER"), "a " + "x" * 99 + " it" * length
    tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False)
    logits = np.random.default_rng(length).normal(size=(len(tokens["input_ids"]), 2)).astype(np.float32)
    logits[:, 1] += 5.0  # one label nearly everywhere
    options = EntityOptions(strategy)

    [entities] = EntityFinder(tokenizer, labels).find(joined([text], [tokens], [logits]), options)

    wanted = reference(tokenizer, labels, text, tokens, logits, aggregation_strategy=AggregationStrategy(strategy))
    assert entities_to_json(entities, options) == to_json(wanted)


def test_labels_need_a_text_for_each_number() -> None:
    assert label_names({0: "O", 1: "B-PER"}) == ["O", "B-PER"]
    assert label_names({0: "O", 2: "B-PER"}) is None
    assert label_names({0: "O", 1: 1}) is None
