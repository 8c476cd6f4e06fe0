"""Texts read in windows: their scores are those of windows that transformers computes one by one."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from models.errors import JobError
from tests.factories import tiny_encoders
from worker.adapters.rows import Row
from worker.adapters.tasks.job_errors import output_or_error
from worker.engine import planning
from worker.leasing.leases import Job, Lease
from worker.loading import runtime

LIMIT, STRIDE = 12, 4
CLOSE = 1e-5

TEXTS = [
    "love",
    "love " * 10,  # fits exactly
    "love hate " * 5 + "great",
    "it " * 22,  # ends exactly at the edge of its third window
    "great product terrible, it! " * 9,
    "世界😀é " * 12,
    "hate\u200b\u202e the [SEP] </s> product " * 4,
]
AGGREGATIONS = ("mean", "max", "first", "weighted")

Score = Callable[[torch.Tensor], torch.Tensor]


def jobs(inputs: Sequence[str | Mapping[str, Any]], **parameters: Any) -> list[Job]:
    lease = Lease(1, "batch", 0, len(inputs), 1, 1, parameters=parameters)
    whole = [{"text": document} if isinstance(document, str) else dict(document) for document in inputs]
    return [Job(lease, position, document) for position, document in enumerate(whole)]


def load(folder: Path, task: str = "sentiment-analysis", **entry: Any) -> Any:
    entry = {"max_length": LIMIT, "truncation": "stride", "stride": STRIDE, **entry}
    return runtime.load(tiny_encoders.pipeline_for(folder, task, **entry), "cpu", threads=1).adapter


def rows(encoded: list[Row] | JobError) -> list[Row]:
    assert isinstance(encoded, list)
    return encoded


def refusal(encoded: list[Row] | JobError) -> JobError:
    assert isinstance(encoded, JobError)
    return encoded


def answer(adapter: Any, asked: Sequence[Job], budget_tokens: int = 100) -> list[Any]:
    """Outputs decoded one by one, after passes as the engine packs them; the same bytes as decoded together."""
    encoded = [rows(item) for item in adapter.encode(asked)]
    raw: dict[tuple[int, int], Any] = {}
    for batch in planning.plan_micro_batches([row for item in encoded for row in item], budget_tokens, 512):
        for row, output in zip(batch.rows, adapter.forward(batch), strict=True):
            raw[row.job.position, row.part_index] = output
    decodable = [(item, [raw[item[0].job.position, row.part_index] for row in item]) for item in encoded]
    assert list(adapter.decode_many(decodable)) == [output_or_error(adapter.decode, *job) for job in decodable]
    return [adapter.decode(*job) for job in decodable]


class Reference:
    """Scores windows one by one with the tokenizer's own windows and the model's own forward pass."""

    def __init__(self, folder: Path, tokenizer: Any = None) -> None:
        self.tokenizer = tokenizer or AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()

    def windows(
        self, *texts: str, cut: int = 0, limit: int = LIMIT, stride: int = STRIDE
    ) -> list[dict[str, list[int]]]:
        strategy = {0: "only_first", 1: "only_second"}[cut]
        encoding = self.tokenizer(
            *texts, truncation=strategy, max_length=limit, stride=STRIDE, return_overflowing_tokens=True
        )
        names = [name for name in self.tokenizer.model_input_names if name in encoding]
        return [{name: encoding[name][place] for name in names} for place in range(len(encoding["input_ids"]))]

    @torch.inference_mode()
    def logits(self, window: Mapping[str, list[int]]) -> torch.Tensor:
        return self.model(**{name: torch.tensor([values]) for name, values in window.items()}).logits[0]

    def token_count(self, window: Mapping[str, list[int]]) -> int:
        return len(window["input_ids"]) - self.tokenizer.num_special_tokens_to_add()


def aggregate(scores: Sequence[Any], aggregation: str, weights: Sequence[int]) -> list[float]:
    table = np.array([list(map(float, line)) for line in scores])
    if aggregation == "first":
        return list(table[0])
    if aggregation == "max":
        return [max(column) for column in table.T]
    shares = weights if aggregation == "weighted" else [1] * len(table)
    return [sum(share * value for share, value in zip(shares, column, strict=True)) / sum(shares) for column in table.T]


def scores_by_label(output: Any) -> dict[str, float]:
    if isinstance(output, dict):
        return dict(zip(output["labels"], output["scores"], strict=True))
    assert [item["score"] for item in output] == sorted([item["score"] for item in output], reverse=True)
    return {item["label"]: item["score"] for item in output}


class TestTextClassification:
    @pytest.mark.parametrize("aggregation", AGGREGATIONS)
    @pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta"])
    def test_has_the_scores_of_windows_scored_by_hand(
        self, made: Callable[[str], Path], architecture: str, aggregation: str
    ) -> None:
        reference = Reference(made(architecture))
        adapter = load(made(architecture), window_aggregation=aggregation)

        outputs = answer(adapter, jobs(TEXTS, top_k=None))

        for text, output in zip(TEXTS, outputs, strict=True):
            windows = reference.windows(text)
            by_hand = [reference.logits(window).softmax(-1) for window in windows]
            wanted = aggregate(by_hand, aggregation, list(map(reference.token_count, windows)))
            assert list(map(scores_by_label(output).get, ("LABEL_0", "LABEL_1"))) == pytest.approx(wanted, abs=CLOSE)

    def test_counts_the_windows_of_each_text(self, made: Callable[[str], Path]) -> None:
        reference, asked = Reference(made("bert")), jobs(TEXTS)
        expected = [len(reference.windows(text)) for text in TEXTS]

        whole, first = (load(made("bert"), window_aggregation=name).encode(asked) for name in ("mean", "first"))

        assert expected[:4] == [1, 1, 2, 3]
        assert [[row.window_count for row in rows(item)] for item in whole] == [[count] * count for count in expected]
        assert [[row.window_count for row in rows(item)] for item in first] == [[count] for count in expected]
        assert not any(row.truncated for item in (*whole, *first) for row in rows(item))
