"""Pipelines that transformers runs itself give what `pipeline(...)` gives for each input alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from tests.conformance.conftest import RunBatches
from tests.factories import tiny_decoders, tiny_models, tiny_tables
from tests.factories.registered_pipelines import PairPipeline, SentencesPipeline, registered
from tests.factories.tiny_encoders import pipeline_for
from worker.adapters.generic.plain_output import to_plain
from worker.loading import runtime

CLOSE = 1e-5

TABLE = {"product": ["love", "hate", "great ing"], "a": ["1", "22", "3"], "the": ["x", "y z", ""]}
TABLES: list[dict[str, Any]] = [
    {"table": TABLE, "query": "the product"},
    {"table": TABLE, "query": "a great product ?"},
    {"table": {name: cells[:1] for name, cells in TABLE.items()}, "query": "it"},
    {"table": {name: cells[::-1] for name, cells in TABLE.items()}, "query": "hate it a lot"},
    {"table": {"é": ["世", "界"]}, "query": "世?"},
    {"table": {"a": ["b"]}, "query": "."},
    {"table": {"a": ["love hate"] * 60}, "query": "cut"},
    {"table": TABLE, "query": ["the product", "hate"]},
    *({"table": {"a": [str(number)], "b": ["love"] * 1}, "query": "great " * (number % 7 + 1)} for number in range(8)),
]


@pytest.mark.parametrize("aggregates", [True, False])
def test_table_question_answering_equals_pipeline(aggregates: bool, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_tables.tapas(tmp_path / "model", aggregates=aggregates)
    loaded = runtime.load(pipeline_for(folder, "table-question-answering"), "cpu", threads=1, micro_batch_tokens=400)
    parameters: list[dict[str, Any]] = [{}, {"sequential": True}]

    ours = run_batches(loaded, TABLES, parameters)

    reference = pipeline("table-question-answering", model=str(folder), device="cpu", dtype=torch.float32)
    for given, rows in zip(parameters, ours, strict=True):
        for one, row in zip(TABLES, rows, strict=True):
            assert row.error_code is None, row.error_message
            assert row.output == to_plain(reference(dict(one), **given))
            assert row.truncated == (one["query"] == "cut")


REQUESTS: list[dict[str, Any]] = [
    {"state": "I love it", "questions": {"a": {"type": "noul", "instructions": "love?"}}},
    {
        "state": {"text": "I hate it", "stars": 1},
        "questions": {
            "b": {"type": "choice", "criteria": {"good": None, "bad": "hate"}},
            "c": {"type": "score", "criteria": ["no", "so so", "yes"]},
        },
    },
    {"state": "<|mark|> <|end|>"},
]
QUESTIONS = {"d": {"type": "noul", "criteria": {"true": "it is", "false": "it is not"}}}


def test_decision_equals_pipeline(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_decoders.qwen2(tmp_path / "model", max_position_embeddings=1_000)
    labels = '{"labels": {"noul": ["a", "b"], "choice": ["a", "b"], "score": ["a", "b", "c"]}}'
    (folder / "decision.json").write_text(labels, "utf-8")
    entry = pipeline_for(folder, "decision", tokenizer=str(long_tokenizer(tmp_path / "tokenizer")))
    loaded = runtime.load(entry, "cpu", threads=1, micro_batch_tokens=400)

    [rows] = run_batches(loaded, REQUESTS, [{"questions": QUESTIONS}])

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    # Given a folder, it would take any Qwen2 for a head with billions of weights that are not there.
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    reference = pipeline("decision", model=model, tokenizer=tokenizer, device="cpu")
    for request, row in zip(REQUESTS, rows, strict=True):
        assert row.error_code is None, row.error_message
        assert_close(row.output, to_plain(reference({"questions": QUESTIONS, **request})))


def test_decision_model_equals_pipeline(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_decoders.jev(tmp_path / "model", max_position_embeddings=1_000)
    loaded = runtime.load(pipeline_for(folder, "decision"), "cpu", threads=1, micro_batch_tokens=400)

    [rows] = run_batches(loaded, REQUESTS, [{"questions": QUESTIONS}])

    reference = pipeline("decision", model=str(folder), device="cpu", dtype=torch.float32)
    for request, row in zip(REQUESTS, rows, strict=True):
        assert row.error_code is None, row.error_message
        assert_close(row.output, to_plain(reference({"questions": QUESTIONS, **request})))


def long_tokenizer(folder: Path) -> Path:
    tiny_decoders.byte_level_tokenizer(max_length=1_000).save_pretrained(folder)
    return folder


TEXTS: list[Any] = [
    "love",
    "I love this product! It's amazing.",
    "世界 é",
    "love",
    "hate " * 10,
    {"inputs": {"first": "love it", "second": "hate it. a"}},
    {"inputs": {"first": "a", "second": "the product"}},
    {"inputs": ["love", "hate it"]},
    *(f"{word} {'great ' * number}" for number in range(8) for word in ("love", "hate", "it")),
]


@pytest.mark.parametrize("kind", ["text", None])
def test_registered_pipeline_equals_pipeline(kind: str | None, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_models.bert(tmp_path / "model", num_labels=3)
    parameters: list[dict[str, Any]] = [{}, {"digits": 2}]
    with registered("pair-scores", PairPipeline, kind):
        entry = pipeline_for(folder, "transformers:pair-scores", parameters={"digits": 12})
        loaded = runtime.load(entry, "cpu", threads=1, micro_batch_tokens=400)

        ours = run_batches(loaded, TEXTS, parameters)

        reference = reference_for(folder, PairPipeline)
        for given, rows in zip(parameters, ours, strict=True):
            for one, row in zip(TEXTS, rows, strict=True):
                assert row.error_code is None, row.error_message
                value = one["inputs"] if isinstance(one, dict) else one
                assert_close(row.output, to_plain(reference(value, **given)))


def test_chunked_pipeline_equals_pipeline(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_models.distilbert(tmp_path / "model")
    texts = ["love", "love it. hate it. a great product", "a.b.c.", *(f"{'it. ' * number}great" for number in range(9))]
    with registered("sentence-scores", SentencesPipeline):
        entry = pipeline_for(folder, "transformers:sentence-scores")
        loaded = runtime.load(entry, "cpu", threads=1, micro_batch_tokens=100)

        [rows] = run_batches(loaded, texts, [{}])

        reference = reference_for(folder, SentencesPipeline)
        for text, row in zip(texts, rows, strict=True):
            assert row.error_code is None, row.error_message
            assert_close(row.output, to_plain(reference(text)))


def reference_for(folder: Path, pipeline_class: Any) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return pipeline_class(model=model, tokenizer=AutoTokenizer.from_pretrained(folder), device="cpu")


def assert_close(ours: Any, reference: Any) -> None:
    if isinstance(reference, dict):
        assert list(ours) == list(reference)
        for name, value in reference.items():
            assert_close(ours[name], value)
    elif isinstance(reference, list):
        assert len(ours) == len(reference)
        for one, other in zip(ours, reference, strict=True):
            assert_close(one, other)
    else:
        assert ours == (pytest.approx(reference, rel=CLOSE, abs=CLOSE) if isinstance(reference, float) else reference)
