"""text-ranking equals `sentence_transformers.CrossEncoder`, which gets one pair at a time."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import RunBatches
from tests.factories import cross_encoders
from tests.factories.tiny_encoders import pipeline_for
from worker.loading import runtime

CLOSE = 1e-5

TEXTS = [
    "love",
    "I love this product! It's amazing.",
    "great 😀",
    "世界",
    "e\u0301te\u0301 naïve ﬁ",
    ".",
    "\u200b",
    "love hate " * 40,
    "世" * 100,
    "a" * 200,
    "[SEP] literal </s> words",
    "zero\u200bwidth \u202ehate",
    "the terrible product",
]
QUERIES = ["love it", "a terrible product ?", "hate " * 30, "x" * 90, "世界 great"]
PAIRS = [{"query": query, "text": text} for query in QUERIES for text in TEXTS]
LISTS: list[dict[str, Any]] = [
    {"query": "love it", "texts": TEXTS},
    {"query": "hate " * 30, "texts": TEXTS[::-1]},
    {"query": "great", "texts": ["love"]},
    {"query": "great", "texts": ["the product", "love", "the product", "love"]},
]
INPUTS: list[dict[str, Any]] = [*PAIRS, *LISTS]
random.Random(7).shuffle(INPUTS)

PARAMETERS: list[dict[str, Any]] = [
    {},
    {"function_to_apply": "none", "return_texts": True, "top_k": 3},
    {"function_to_apply": "sigmoid", "top_k": 1_000},
]
FUNCTIONS = {None: None, "none": "Identity", "sigmoid": "Sigmoid"}


@pytest.mark.parametrize("architecture", cross_encoders.ARCHITECTURES)
def test_equals_cross_encoder(architecture: str, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model", architecture)
    loaded = runtime.load(pipeline_for(folder, "text-ranking"), "cpu", threads=1, micro_batch_tokens=400)
    pairs = [(row["query"], text) for row in INPUTS for text in row.get("texts") or [row["text"]]]

    ours = run_batches(loaded, INPUTS, PARAMETERS)

    reference = cross_encoders.load_reference(folder)
    for parameters, rows in zip(PARAMETERS, ours, strict=True):
        assert {row.error_code for row in rows} == {None}
        activation = cross_encoders.activation(FUNCTIONS[parameters.get("function_to_apply")])
        scores = iter(reference.predict(pairs, batch_size=1, activation_fn=activation).tolist())
        for given, row in zip(INPUTS, rows, strict=True):
            if "text" in given:
                assert row.output == {"score": pytest.approx(next(scores), abs=CLOSE)}
            else:
                assert_ranked(row.output, given["texts"], [next(scores) for _ in given["texts"]], parameters)
    cut = {given["text"] for given, row in zip(INPUTS, ours[0], strict=True) if "text" in given and row.truncated}
    assert "love hate " * 40 in cut


def assert_ranked(output: Any, texts: list[str], scores: list[float], parameters: dict[str, Any]) -> None:
    """The output has these scores, best first; texts whose scores are as good as equal may come in any order."""
    assert len(output) == min(len(texts), parameters.get("top_k", len(texts)))
    assert [item["score"] for item in output] == sorted((item["score"] for item in output), reverse=True)
    assert len({item["index"] for item in output}) == len(output)
    best = sorted(scores, reverse=True)[: len(output)]
    for item, score in zip(output, best, strict=True):
        assert item["score"] == pytest.approx(score, abs=CLOSE) == pytest.approx(scores[item["index"]], abs=CLOSE)
        assert item.get("text") == (texts[item["index"]] if parameters.get("return_texts") else None)


def test_equals_rank(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model")
    loaded = runtime.load(pipeline_for(folder, "text-ranking"), "cpu", threads=1)
    texts = ["the product", "love", "hate it", "terrible"]

    [[row]] = run_batches(loaded, [{"query": "great", "texts": texts}], [{"top_k": 3, "return_texts": True}])

    ranked = cross_encoders.load_reference(folder).rank("great", texts, top_k=3, return_documents=True)
    assert [(item["index"], item["text"]) for item in row.output] == [
        (item["corpus_id"], item["text"]) for item in ranked
    ]
    assert [item["score"] for item in row.output] == pytest.approx([item["score"] for item in ranked], abs=CLOSE)


def test_equal_texts_get_equal_scores_in_their_order(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model")
    loaded = runtime.load(pipeline_for(folder, "text-ranking"), "cpu", threads=1, micro_batch_tokens=40)
    texts = ["love", "the product", "love", "hate " * 5, "love"]

    [[row]] = run_batches(loaded, [{"query": "great", "texts": texts}], [{}])

    same = [item for item in row.output if texts[item["index"]] == "love"]
    assert [item["index"] for item in same] == [0, 2, 4]
    assert len({item["score"] for item in same}) == 1
    assert len(row.output) == len(texts)


@pytest.mark.parametrize("fields", [{"classifier_pooling": "mean"}, {"classifier_activation": "silu"}])
def test_equals_cross_encoder_with_other_heads(fields: dict[str, Any], tmp_path: Path, run_batches: RunBatches) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model", "modernbert", **fields)
    loaded = runtime.load(pipeline_for(folder, "text-ranking"), "cpu", threads=1, micro_batch_tokens=200)

    [rows] = run_batches(loaded, PAIRS[: len(TEXTS)], [{}])

    pairs = [(row["query"], row["text"]) for row in PAIRS[: len(TEXTS)]]
    scores = cross_encoders.load_reference(folder).predict(pairs, batch_size=1).tolist()
    assert [row.output["score"] for row in rows] == pytest.approx(scores, abs=CLOSE)


TANH = "torch.nn.modules.activation.Tanh"
IDENTITY = "torch.nn.modules.linear.Identity"
# Entries of config.json, and the files of sentence-transformers, None = there are none.
FILES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "none": ({}, None),
    "activation": ({"sentence_transformers": {"activation_fn": IDENTITY}}, None),
    "null_activation": ({"sentence_transformers": {"activation_fn": None}}, None),
    "old_activation": ({"sbert_ce_default_activation_function": TANH}, None),
    "both_activations": (
        {"sentence_transformers": {"activation_fn": IDENTITY}, "sbert_ce_default_activation_function": TANH},
        None,
    ),
    "own_file": ({"sentence_transformers": {"activation_fn": IDENTITY}}, {"activation_fn": TANH}),
    "own_file_without": ({"sentence_transformers": {"activation_fn": IDENTITY}}, {}),
    "prompt": ({}, {"prompts": {"query": "Find: ", "other": None}, "default_prompt_name": "query"}),
    "empty_prompt": ({}, {"prompts": {"query": "Find: ", "other": None}, "default_prompt_name": "other"}),
    "no_default_prompt": ({}, {"prompts": {"query": "Find: "}}),
    "limit_and_case": ({}, {"transformer": {"max_seq_length": 24, "do_lower_case": True}}),
    "another_kind": ({}, {"model_type": "SentenceTransformer", "activation_fn": TANH, "default_prompt_name": "nope"}),
}


@pytest.mark.parametrize("name", FILES)
def test_reads_the_files_of_sentence_transformers(name: str, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model", "roberta")
    config, files = FILES[name]
    cross_encoders.change_config(folder, **config)
    if files is not None:
        cross_encoders.add_modules(folder, **files)
    pairs = [("Love it", "The terrible PRODUCT " * 2), ("x", "A"), ("great " * 9, "hate " * 9)]

    loaded = runtime.load(pipeline_for(folder, "text-ranking"), "cpu", threads=1)
    [rows] = run_batches(loaded, [{"query": query, "text": text} for query, text in pairs], [{}])

    scores = cross_encoders.load_reference(folder).predict(pairs, batch_size=1).tolist()
    assert [row.output["score"] for row in rows] == pytest.approx(scores, abs=CLOSE)


@pytest.mark.parametrize("architecture", ["modernbert", "llama"])
def test_equals_a_model_that_sentence_transformers_saved(
    architecture: str, tmp_path: Path, run_batches: RunBatches
) -> None:
    reference = cross_encoders.load_reference(cross_encoders.cross_encoder(tmp_path / "made", architecture))
    reference.prompts, reference.default_prompt_name = {"query": "Find: "}, "query"
    reference.activation_fn, reference.max_seq_length = cross_encoders.activation("Tanh"), 40
    reference.save_pretrained(str(tmp_path / "saved"))
    pairs = [("love it", "the terrible product " * 9), ("great", "hate")]

    loaded = runtime.load(pipeline_for(tmp_path / "saved", "text-ranking"), "cpu", threads=1)
    [rows] = run_batches(loaded, [{"query": query, "text": text} for query, text in pairs], [{}])

    scores = cross_encoders.load_reference(tmp_path / "saved").predict(pairs, batch_size=1).tolist()
    assert scores == pytest.approx(reference.predict(pairs, batch_size=1).tolist(), abs=CLOSE)
    assert [row.output["score"] for row in rows] == pytest.approx(scores, abs=CLOSE)
    assert [row.truncated for row in rows] == [True, False]
