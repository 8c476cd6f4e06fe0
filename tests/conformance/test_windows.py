"""Long texts read in windows equal the answers of `pipeline(...)` to each window, aggregated by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer
from transformers import pipeline as transformers_pipeline

from tests.conformance.conftest import RunBatches
from tests.factories import cross_encoders, tiny_encoders, tiny_models
from worker.loading import runtime

CLOSE = 1e-4
LIMIT, STRIDE = 16, 5
TEXTS = [
    "love",
    "love hate great terrible " * 3,
    "the product " * 60,
    "a " * 14,  # fits exactly, without a label
    "世界 é love it! " * 9,
    "great " * 13 + "hate",
]
LABELS = ["love", "hate", "product"]
ENTRY = {"max_length": LIMIT, "truncation": "stride", "stride": STRIDE}


def split(tokenizer: Any, text: str, room: int) -> list[str]:
    """The texts of the windows, cut where the tokenizer's tokens begin and end."""
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoding["offset_mapping"]
    windows, start = [], 0
    while True:
        part = offsets[start : start + room]
        windows.append(text[part[0][0] : part[-1][1]])
        if start + room >= len(offsets):
            return windows
        start += room - STRIDE


def aggregate(tables: list[dict[str, float]], aggregation: str, tokenizer: Any, windows: list[str]) -> dict[str, float]:
    if aggregation == "first":
        return tables[0]
    if aggregation == "max":
        return {label: max(table[label] for table in tables) for label in tables[0]}
    weights = None
    if aggregation == "weighted":
        weights = [len(tokenizer(window, add_special_tokens=False)["input_ids"]) for window in windows]
    return {label: float(np.average([table[label] for table in tables], weights=weights)) for label in tables[0]}


@pytest.mark.parametrize("aggregation", ["mean", "max", "first", "weighted"])
def test_text_classification(aggregation: str, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_models.bert(tmp_path / "bert")
    entry = tiny_encoders.pipeline_for(folder, "sentiment-analysis", window_aggregation=aggregation, **ENTRY)
    reference = transformers_pipeline("text-classification", model=str(folder), device="cpu", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(folder)

    best, ranked = run_batches(runtime.load(entry, "cpu", threads=1, micro_batch_tokens=200), TEXTS, [{}, {"top_k": 2}])

    for text, one, several in zip(TEXTS, best, ranked, strict=True):
        windows = split(tokenizer, text, LIMIT - 2)
        tables = [{item["label"]: item["score"] for item in reference(window, top_k=None)} for window in windows]
        wanted = aggregate(tables, aggregation, tokenizer, windows)
        assert {item["label"]: item["score"] for item in several.output} == pytest.approx(wanted, abs=CLOSE)
        assert one.output == several.output[0]
        assert (several.windows, several.truncated) == (len(windows), False)


@pytest.mark.parametrize("aggregation", ["mean", "max"])
def test_zero_shot_classification(aggregation: str, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_encoders.nli_model(tmp_path / "nli", "bert")
    entry = tiny_encoders.pipeline_for(folder, "zero-shot-classification", window_aggregation=aggregation, **ENTRY)
    reference = transformers_pipeline("zero-shot-classification", model=str(folder), device="cpu", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    parameters = [
        {"candidate_labels": LABELS, "hypothesis_template": "{}", "multi_label": is_multi} for is_multi in (False, True)
    ]

    ours = run_batches(runtime.load(entry, "cpu", threads=1, micro_batch_tokens=200), TEXTS, parameters)

    for given, results in zip(parameters, ours, strict=True):
        for text, result in zip(TEXTS, results, strict=True):
            windows = split(tokenizer, text, LIMIT - 4)  # each label is one token
            answers = [reference(window, **given) for window in windows]
            tables = [dict(zip(answer["labels"], answer["scores"], strict=True)) for answer in answers]
            wanted = aggregate(tables, aggregation, tokenizer, windows)
            output = result.output
            assert dict(zip(output["labels"], output["scores"], strict=True)) == pytest.approx(wanted, abs=CLOSE)
            assert output["scores"] == sorted(output["scores"], reverse=True)
            assert output["sequence"] == text
            assert (result.windows, result.truncated) == (len(windows), False)


@pytest.mark.parametrize("aggregation", [None, "mean", "first", "weighted"])
def test_text_ranking(aggregation: Any, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "ranker", "bert")
    entry = tiny_encoders.pipeline_for(folder, "text-ranking", window_aggregation=aggregation, **ENTRY)
    reference, tokenizer = cross_encoders.load_reference(folder), AutoTokenizer.from_pretrained(folder)
    inputs = [*({"query": "great it", "text": text} for text in TEXTS), {"query": "great it", "texts": TEXTS * 2}]

    [results] = run_batches(runtime.load(entry, "cpu", threads=1, micro_batch_tokens=200), inputs, [{}])

    counts, scores = [], []
    for text in TEXTS:
        windows = split(tokenizer, text, LIMIT - 3 - 2)  # the query is two tokens
        pairs = [("great it", window) for window in windows]
        tables = [{"score": score} for score in reference.predict(pairs, batch_size=1).tolist()]
        counts.append(len(windows))
        scores.append(aggregate(tables, aggregation or "max", tokenizer, windows)["score"])
    assert [result.output["score"] for result in results[:-1]] == pytest.approx(scores, abs=CLOSE)
    assert [result.windows for result in results] == [*counts, max(counts)]
    ranked = {item["index"]: item["score"] for item in results[-1].output}
    assert [ranked[index] for index in range(2 * len(TEXTS))] == pytest.approx(scores * 2, abs=CLOSE)
    assert list(ranked.values()) == sorted(ranked.values(), reverse=True)


def test_each_task_counts_its_windows(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_encoders.token_classifier(tmp_path / "ner", "bert")
    windowed = runtime.load(tiny_encoders.pipeline_for(folder, "ner", **ENTRY), "cpu", threads=1)
    cut = runtime.load(tiny_encoders.pipeline_for(folder, "ner", max_length=LIMIT), "cpu", threads=1)

    [in_windows], [truncated] = (run_batches(loaded, ["love", "it " * 30], [{}]) for loaded in (windowed, cut))

    assert [(result.windows, result.truncated) for result in in_windows] == [(1, False), (3, False)]
    assert [(result.windows, result.truncated) for result in truncated] == [(1, False), (1, True)]


def test_an_input_that_no_model_read_has_no_windows(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = tiny_models.bert(tmp_path / "bert")
    entry = tiny_encoders.pipeline_for(folder, "sentiment-analysis", **ENTRY)
    pair = {"text": "it " * 20, "text_pair": "it " * 12}

    [results] = run_batches(runtime.load(entry, "cpu", threads=1), ["love", pair], [{}])

    assert [(result.error_code, result.windows) for result in results] == [(None, 1), ("input_too_long", None)]


def test_a_query_that_fills_the_windows_fails_alone(tmp_path: Path, run_batches: RunBatches) -> None:
    entry = tiny_encoders.pipeline_for(cross_encoders.cross_encoder(tmp_path / "ranker"), "text-ranking", **ENTRY)
    inputs = [
        {"query": "it " * 8, "text": "love " * 30},  # room for 5, which the windows would share
        {"query": "it " * 12, "text": "love"},
        {"query": "it " * 12, "texts": ["love", "love it"]},
    ]

    [results] = run_batches(runtime.load(entry, "cpu", threads=1), inputs, [{}])

    assert [result.error_code for result in results] == ["query_too_long", None, "query_too_long"]
    assert "which leaves windows of 16 tokens room for 5 of the text, of which they share 5" in results[0].error_message
    assert "which leaves windows of 16 tokens room for 1 of the text" in results[2].error_message
