"""Jobs decoded together have the same bytes as jobs decoded one by one, whatever their scores and parameters are."""

import tracemalloc
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DistilBertConfig

from tests.factories import tiny_encoders, tiny_models
from tests.factories.decoding import decode_alone, decode_together
from tests.factories.tiny_models import pipeline_for
from tests.golden import qa_models
from worker.adapters.interface import DecodableJob
from worker.adapters.rows import Row
from worker.adapters.tasks import question_answering
from worker.leasing.leases import Job, Lease
from worker.loading import runtime

# Ties, signed zeros, denormals, the largest and smallest numbers, and scores that are no numbers.
ODD_LOGITS = [0.0, -0.0, 1.0, -1.0, 1e-40, -1e-45, 3.4e38, -3.4e38, 88.8, -104.0, 1e-7, float("inf"), float("nan")]
LOGITS = st.one_of(
    st.floats(-30, 30, width=32), st.sampled_from(ODD_LOGITS), st.floats(width=32, allow_nan=False), st.integers(0, 2)
)
AGGREGATIONS = st.sampled_from(["mean", "max", "first", "weighted"])
LABELS = ['a "quoted" label', "back\\slash\n", "größte", "\u2028", "plain"]


def load(folder: Path, **entry: Any) -> Any:
    return runtime.load(pipeline_for(folder, **entry), "cpu", threads=1).adapter


def leases(parameters: Sequence[dict[str, Any]]) -> list[Lease]:
    """Two leases for each set of parameters, so that groups span leases."""
    return [
        Lease(slice_id, "batch", 0, 9, 1, 1, parameters=dict(item)) for slice_id, item in enumerate([*parameters] * 2)
    ]


def random_logits(draw: st.DataObject, *shape: int) -> Any:
    """Float32 of this shape; hypothesis draws the odd ones, and where they are."""
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    logits = rng.normal(0, draw.draw(st.sampled_from([1.0, 5.0, 40.0])), shape).astype(np.float32)
    for value in draw.draw(st.lists(LOGITS, max_size=8)):
        logits[tuple(rng.integers(size) for size in shape)] = value
    return logits


def windows_of(draw: st.DataObject, job: Job, parts: int, labels: int = 1) -> list[Row]:
    """The rows of a text with so many windows, each with a row for each label."""
    window_count = parts // labels
    tokens = draw.draw(st.lists(st.integers(1, 512), min_size=window_count, max_size=window_count))
    return [
        Row(
            job,
            SimpleNamespace(window_tokens=tokens[part // labels]),
            3,
            truncated=False,
            part_index=part,
            part_count=parts,
            window_count=window_count,
        )
        for part in range(parts)
    ]


def with_aggregation(adapter: Any, aggregation: Any) -> Any:
    adapter = copy(adapter)
    adapter._limits = replace(adapter._limits, window_aggregation=aggregation)
    return adapter


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str | None], Any]:
    """Adapters by number of labels and problem type; decoding looks only at the model's config."""
    adapter = load(tiny_models.distilbert(tmp_path_factory.mktemp("models") / "distilbert"))
    classifiers: dict[tuple[int, str | None], Any] = {}
    for labels in (1, 2, 3, 9, 130):
        names = {index: f"{LABELS[index % len(LABELS)]} {index}" for index in range(labels)}
        for problem in (None, "regression", "multi_label_classification"):
            classifier, pipeline = copy(adapter), copy(adapter._pipeline)
            pipeline.model = SimpleNamespace(config=DistilBertConfig(id2label=names, problem_type=problem))
            classifier._pipeline = pipeline
            classifiers[labels, problem] = classifier
    return classifiers


class TestTextClassification:
    PARAMETERS: Sequence[dict[str, Any]] = [
        {},
        {"top_k": 1},
        {"top_k": 2},
        {"top_k": None},
        {"top_k": 10_000},
        *({"function_to_apply": name} for name in ("softmax", "sigmoid", "none")),
        {"function_to_apply": "sigmoid", "top_k": 3},
        {"function_to_apply": "none", "top_k": None},
    ]

    @given(draw=st.data())
    @settings(max_examples=30, deadline=None)
    def test_outputs_have_the_bytes_of_those_decoded_alone(self, classifiers: Any, draw: st.DataObject) -> None:
        labels, problem = draw.draw(st.sampled_from(list(classifiers)))
        slices = leases(draw.draw(st.lists(st.sampled_from(self.PARAMETERS), min_size=1, max_size=3)))
        count = draw.draw(st.integers(1, 20))
        logits = random_logits(draw, count, labels)
        chosen = [slices[draw.draw(st.integers(0, len(slices) - 1))] for _ in range(count)]
        rows = [Row(Job(lease, place, {"text": "a"}), None, 3, truncated=False) for place, lease in enumerate(chosen)]
        raw = list(torch.from_numpy(logits)) if draw.draw(st.booleans()) else list(logits)
        jobs: list[DecodableJob] = [([row], [output]) for row, output in zip(rows, raw, strict=True)]
        adapter = classifiers[labels, problem]

        assert decode_together(adapter, jobs) == decode_alone(adapter, jobs)

    @given(draw=st.data(), aggregation=AGGREGATIONS)
    @settings(max_examples=30, deadline=None)
    def test_texts_of_several_windows_have_the_same_bytes_too(
        self, classifiers: Any, draw: st.DataObject, aggregation: str
    ) -> None:
        labels, problem = draw.draw(st.sampled_from(list(classifiers)))
        slices = leases(draw.draw(st.lists(st.sampled_from(self.PARAMETERS), min_size=1, max_size=3)))
        jobs: list[DecodableJob] = []
        for place in range(draw.draw(st.integers(1, 8))):
            job = Job(draw.draw(st.sampled_from(slices)), place, {"text": "a"})
            rows = windows_of(draw, job, draw.draw(st.integers(1, 4)))
            jobs.append((rows, list(random_logits(draw, len(rows), labels))))
        adapter = with_aggregation(classifiers[labels, problem], aggregation)

        assert decode_together(adapter, jobs) == decode_alone(adapter, jobs)


@pytest.fixture(scope="module")
def inference_models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Any]:
    """Adapters by the place of the entailment label and the number of labels."""
    folder = tiny_encoders.nli_model(tmp_path_factory.mktemp("models") / "nli", "bert")
    adapter = load(folder, task="zero-shot-classification")
    models: dict[tuple[int, int], Any] = {}
    for entailment, labels in ((0, 3), (2, 3), (0, 2), (1, 2)):
        names = {place: "entailment" if place == entailment else f"no {place}" for place in range(labels)}
        model, pipeline = copy(adapter), copy(adapter._pipeline)
        config = DistilBertConfig(id2label=names, label2id={name: place for place, name in names.items()})
        pipeline.model = SimpleNamespace(config=config)
        model._pipeline = pipeline
        models[entailment, labels] = model
    return models


class TestZeroShot:
    PARAMETERS: Sequence[dict[str, Any]] = [
        {"candidate_labels": LABELS},
        {"candidate_labels": LABELS, "multi_label": True},
        {"candidate_labels": ["one"]},
        {"candidate_labels": ["one"], "multi_label": False},
        {"candidate_labels": [f"label {number}" for number in range(40)]},
        {"candidate_labels": ["a", "b"], "hypothesis_template": "This is {}."},
    ]

    @given(draw=st.data())
    @settings(max_examples=20, deadline=None)
    def test_outputs_have_the_bytes_of_those_decoded_alone(self, inference_models: Any, draw: st.DataObject) -> None:
        entailment, model_labels = draw.draw(st.sampled_from(list(inference_models)))
        slices = leases(draw.draw(st.lists(st.sampled_from(self.PARAMETERS), min_size=1, max_size=3)))
        jobs: list[DecodableJob] = []
        for place in range(draw.draw(st.integers(1, 12))):
            given_labels = draw.draw(st.sampled_from([{}, {}, {}, {"candidate_labels": LABELS[:3]}]))
            text = draw.draw(st.sampled_from(LABELS))
            job = Job(draw.draw(st.sampled_from(slices)), place, {"text": text, **given_labels})
            count = len(given_labels.get("candidate_labels") or job.lease.parameters["candidate_labels"])
            rows = [Row(job, None, 3, truncated=False, part_index=part, part_count=count) for part in range(count)]
            jobs.append((rows, list(random_logits(draw, count, model_labels))))
        adapter = inference_models[entailment, model_labels]

        assert decode_together(adapter, jobs) == decode_alone(adapter, jobs)

    @given(draw=st.data(), aggregation=AGGREGATIONS)
    @settings(max_examples=20, deadline=None)
    def test_texts_of_several_windows_have_the_same_bytes_too(
        self, inference_models: Any, draw: st.DataObject, aggregation: str
    ) -> None:
        entailment, model_labels = draw.draw(st.sampled_from(list(inference_models)))
        slices = leases(draw.draw(st.lists(st.sampled_from(self.PARAMETERS), min_size=1, max_size=3)))
        jobs: list[DecodableJob] = []
        for place in range(draw.draw(st.integers(1, 8))):
            # Six rows are two windows of three labels, or three windows of two.
            own = {"candidate_labels": LABELS[: draw.draw(st.integers(1, 3))]}
            job = Job(draw.draw(st.sampled_from(slices)), place, {"text": "a", **own})
            labels = len(own["candidate_labels"])
            rows = windows_of(draw, job, labels * draw.draw(st.integers(1, 3)), labels)
            jobs.append((rows, list(random_logits(draw, len(rows), model_labels))))
        adapter = with_aggregation(inference_models[entailment, model_labels], aggregation)

        assert decode_together(adapter, jobs) == decode_alone(adapter, jobs)


@pytest.fixture(scope="module")
def question_answerers(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """An adapter that reads the question first, and one that reads the context first."""
    adapter = load(qa_models.bert(tmp_path_factory.mktemp("models") / "bert"), task="question-answering")
    context_first = copy(adapter)
    context_first._pads_left, context_first._context_index = True, 0
    return [adapter, context_first]


class TestQuestionAnswering:
    PARAMETERS: Sequence[dict[str, Any]] = [
        {},
        {},
        {"top_k": 3},
        {"top_k": 40, "align_to_words": False},
        {"handle_impossible_answer": True},
        {"handle_impossible_answer": True, "top_k": 5, "max_answer_len": 1},
        {"align_to_words": False},
        {"max_seq_len": 24, "doc_stride": 6},
        {"max_seq_len": 24, "doc_stride": 3, "top_k": 2, "max_answer_len": 10_000},
    ]
    CONTEXTS: Sequence[str] = [
        "the river",
        "the river is in the city and The River is old",
        "x" * 30,
        "the city " * 20,
        "\u2028 , .",
        " ",
        "a",
    ]

    @given(draw=st.data())
    @settings(max_examples=20, deadline=None)
    def test_outputs_have_the_bytes_of_those_decoded_alone(self, question_answerers: Any, draw: st.DataObject) -> None:
        adapter = draw.draw(st.sampled_from(question_answerers))
        slices = leases(draw.draw(st.lists(st.sampled_from(self.PARAMETERS), min_size=1, max_size=3)))
        jobs: list[DecodableJob] = []
        for place in range(draw.draw(st.integers(1, 10))):
            job_input = {"question": "who is it", "context": draw.draw(st.sampled_from(self.CONTEXTS))}
            [rows] = adapter.encode([Job(draw.draw(st.sampled_from(slices)), place, job_input)])
            jobs.append((rows, [random_logits(draw, 2, row.length) for row in rows]))

        assert decode_together(adapter, jobs) == decode_alone(adapter, jobs)

    @pytest.mark.parametrize("chunk_bytes", [1, 3_000, 20_000])
    def test_chunks_of_windows_change_no_byte(
        self, question_answerers: Any, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
    ) -> None:
        monkeypatch.setattr(question_answering, "MAX_CHUNK_BYTES", chunk_bytes)
        rng = np.random.default_rng(1)
        lease = Lease(1, "batch", 0, 9, 1, 1, parameters={"max_seq_len": 24, "doc_stride": 6, "top_k": 3})
        contexts = ["the city is on the river " * repeats for repeats in (1, 9, 9, 20, 9)]
        encoded = question_answerers[0].encode(
            [Job(lease, place, {"question": "who", "context": context}) for place, context in enumerate(contexts)]
        )
        jobs: list[DecodableJob] = [
            (rows, [rng.normal(0, 4, (2, row.length)).astype(np.float32) for row in rows]) for rows in encoded
        ]
        jobs[2][1][-1][0, 3] = np.nan

        outputs = decode_together(question_answerers[0], jobs)

        assert outputs == decode_alone(question_answerers[0], jobs)
        assert [output.startswith("JobError") for output in outputs] == [False, False, True, False, False]

    def test_memory_does_not_grow_with_the_windows_of_a_job(
        self, question_answerers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(question_answering, "MAX_CHUNK_BYTES", 2**16)
        lease = Lease(1, "batch", 0, 9, 1, 1, parameters={"max_seq_len": 500, "doc_stride": 480})
        [rows] = question_answerers[0].encode(
            [Job(lease, 0, {"question": "who", "context": "the city is on the river " * 3_000})]
        )
        logits = np.random.default_rng(1).normal(0, 4, (len(rows), 2, 500)).astype(np.float32)
        raw_outputs = [line[:, : row.length] for line, row in zip(logits, rows, strict=True)]
        decode_together(question_answerers[0], [(rows[:1], raw_outputs[:1])])  # what is imported or cached once

        tracemalloc.start()
        decode_together(question_answerers[0], [(rows, raw_outputs)])
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert logits.nbytes > 3_000_000
        assert peak_bytes < logits.nbytes  # in a single chunk it was six times as much

    def test_words_out_of_order_are_searched_as_in_each_window_alone(self, question_answerers: Any) -> None:
        adapter, rng = question_answerers[0], np.random.default_rng(1)
        lease = Lease(1, "batch", 0, 9, 1, 1)
        jobs: list[DecodableJob] = []
        for place in range(4):
            job = Job(lease, place, {"question": "who is it", "context": "the city is on the river " * 3})
            [rows] = adapter.encode([job])
            for row in rows:
                rng.shuffle(row.features._passage.words)
            jobs.append((rows, [rng.normal(0, 4, (2, row.length)).astype(np.float32) for row in rows]))

        assert decode_together(adapter, jobs) == decode_alone(adapter, jobs)
