"""The zero-shot adapter: a row for each label, tokenized once, cut in the text alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ByT5Tokenizer

from models.errors import JobError, ModelError
from tests.factories import tiny_encoders as encoders
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.zero_shot import ZeroShotClassification
from worker.leasing.leases import Job, Lease
from worker.loading import runtime


def jobs(inputs: Sequence[str | Mapping[str, Any]], **parameters: Any) -> list[Job]:
    lease = Lease(1, "batch", 0, len(inputs), 1, 1, parameters=parameters)
    whole = [{"text": document} if isinstance(document, str) else dict(document) for document in inputs]
    return [Job(lease, position, document) for position, document in enumerate(whole)]


def load(folder: Path, **entry: Any) -> ZeroShotClassification:
    adapter = runtime.load(encoders.pipeline_for(folder, "zero-shot-classification", **entry), "cpu", threads=1).adapter
    assert isinstance(adapter, ZeroShotClassification)
    return adapter


def rows(encoded: list[Row] | JobError) -> list[Row]:
    assert isinstance(encoded, list)
    return encoded


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.nli_model(tmp_path_factory.mktemp("nli") / "bert", "bert")


class TestEncode:
    def test_gives_a_row_for_each_label_in_order(self, bert: Path) -> None:
        adapter = load(bert)
        batch_jobs = jobs(
            ["love it", {"text": "hate", "candidate_labels": ["great"]}], candidate_labels=["a", "the product"]
        )

        first, second = map(rows, adapter.encode(batch_jobs))

        assert [(row.job, row.part_index, row.part_count) for row in first] == [
            (batch_jobs[0], 0, 2),
            (batch_jobs[0], 1, 2),
        ]
        assert [(row.job, row.part_index, row.part_count) for row in second] == [(batch_jobs[1], 0, 1)]
        tokenizer = adapter._pipeline.tokenizer
        for row, label in zip(first, ["a", "the product"], strict=True):
            expected = tokenizer("love it", f"This example is {label}.", return_attention_mask=False)
            assert {name: list(values) for name, values in row.features.items()} == dict(expected)
            assert row.length == len(expected["input_ids"])

    def test_tokenizes_each_text_once(self, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        adapter = load(bert)
        calls: list[Sequence[str]] = []
        tokens = adapter._special_tokens.tokenize
        monkeypatch.setattr(adapter._special_tokens, "tokenize", lambda texts, *_: calls.append(texts) or tokens(texts))

        adapter.encode(jobs(["love", "hate"], candidate_labels=["a", "b", "c"]))

        assert [len(texts) for texts in calls] == [3, 2]

    def test_of_nothing_is_nothing(self, bert: Path) -> None:
        assert load(bert).encode([]) == []

    def test_reads_tokenizers_in_plain_python_too(self, tmp_path: Path) -> None:
        tokenizer = ByT5Tokenizer(model_max_length=60)
        adapter = load(encoders.nli_model(tmp_path / "bytes", "bert", tokenizer=tokenizer, vocab_size=400))

        [[row]] = map(rows, adapter.encode(jobs(["love it"], candidate_labels=["a"])))

        assert list(row.features["input_ids"]) == tokenizer("love it", "This example is a.")["input_ids"]


class TestTruncation:
    # "It is a." and the special tokens take 10; each "it" takes one
    labels = {"candidate_labels": ["a"], "hypothesis_template": "it it {}"}  # noqa: RUF012

    @pytest.mark.parametrize(("limit", "length", "cut"), [(10, 10, True), (25, 25, True), (26, 26, False)])
    def test_cuts_the_text_alone_and_says_so(self, bert: Path, limit: int, length: int, cut: bool) -> None:
        adapter = load(bert, max_length=limit)

        [[row]] = map(rows, adapter.encode(jobs(["it " * 20], **self.labels)))

        assert (row.length, row.truncated) == (length, cut)
        assert list(row.features["input_ids"][-4:]) == adapter._pipeline.tokenizer("it it a")["input_ids"][-4:]

    def test_unwanted_is_each_input_s_own_error(self, bert: Path) -> None:
        adapter = load(bert, max_length=10, truncation="error")

        short, refused = adapter.encode(jobs(["it", "it " * 20], **self.labels))

        assert [row.truncated for row in rows(short)] == [False]
        assert isinstance(refused, JobError)
        assert refused.code == "input_too_long"
        assert "26 tokens" in str(refused)

    @pytest.mark.parametrize(("limit", "fits"), [(7, True), (6, False)])
    def test_must_leave_a_token_of_the_text(self, bert: Path, limit: int, fits: bool) -> None:
        [encoded] = load(bert, max_length=limit).encode(jobs(["it " * 20], **self.labels))

        if fits:
            assert [row.length for row in rows(encoded)] == [limit]
        else:
            assert isinstance(encoded, JobError)
            assert encoded.code == "hypothesis_too_long"


class TestDecode:
    def test_gives_what_a_job_gets_alone_when_its_rows_run_apart(self, bert: Path) -> None:
        adapter = load(bert)
        [encoded] = map(rows, adapter.encode(jobs(["love it"], candidate_labels=["a", "great", "product"])))

        together = adapter.decode(encoded, adapter.forward(MicroBatch(tuple(encoded))))
        apart = adapter.decode(encoded, [adapter.forward(MicroBatch((row,)))[0] for row in encoded])

        assert together["labels"] == apart["labels"]
        assert together["scores"] == pytest.approx(apart["scores"], abs=1e-5)
        assert sum(together["scores"]) == pytest.approx(1)

    @pytest.mark.parametrize("poison", [float("nan"), float("inf")])
    def test_rejects_scores_that_are_not_finite(self, bert: Path, poison: float) -> None:
        adapter = load(bert)
        [encoded] = map(rows, adapter.encode(jobs(["love it"], candidate_labels=["a", "b"])))

        with pytest.raises(JobError, match="not numbers") as caught:
            adapter.decode(encoded, [torch.zeros(3), torch.tensor([0.0, 0.0, poison])])
        assert caught.value.code == "invalid_output"

    def test_is_bit_identical_whatever_else_is_in_the_pass_if_deterministic(self, bert: Path) -> None:
        adapter = load(bert, deterministic=True)
        texts = ["love", "it " * 30, "great product", "hate"]
        encoded = [row for item in adapter.encode(jobs(texts, candidate_labels=["a", "the the"])) for row in rows(item)]
        alone = [adapter.forward(MicroBatch((row,)))[0] for row in encoded]

        alike = [row for row in encoded if row.key == encoded[0].key]

        for row, raw in zip(alike, adapter.forward(MicroBatch(tuple(alike))), strict=True):
            assert np.array_equal(raw, alone[encoded.index(row)])


class TestModel:
    @pytest.mark.parametrize("labels", [("no", "yes"), ("entailment",)])
    def test_must_know_entailment(self, tmp_path: Path, labels: tuple[str, ...]) -> None:
        with pytest.raises(ModelError, match="begins with entail"):
            load(encoders.nli_model(tmp_path / "other", "bert", labels))

    def test_must_leave_room_for_text(self, bert: Path) -> None:
        with pytest.raises(ModelError, match="leaves no room for text: 3 are special"):
            load(bert, max_length=3)
