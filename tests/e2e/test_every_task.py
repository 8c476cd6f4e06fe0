"""All ten tasks through the whole system by one worker process, against the libraries' own answers, bad rows too."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import pipeline

from models import tasks
from models.pipelines.pipeline import SAMPLES_FOLDER
from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, temporary_deployment

CLOSE = 1e-4
# Those that transformers 5 has a pipeline for, and what it is called with.
REFERENCE = ("sentiment-analysis", "text-generation", "zero-shot-classification", "fill-mask", "ner")
RIGHT = {
    "question-answering": ["İstanbul", "Clara", "Berlin"],
    "translation": [
        "Mein Name ist Sarah und ich lebe in London",
        "Wie alt bist du?",
        "Das Haus ist wunderbar.",
        "Mein Name ist Wolfgang und ich lebe in Berlin.",
    ],
    "summarization": ["cost 88 million pounds", "911 dollars", "Ashhurst Film Award", "violin"],
}


@dataclass(frozen=True)
class Task:
    """What is submitted for a task: good inputs, bad ones with their codes, and parameters."""

    name: str
    bad: Mapping[str, Any]
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> list[Any]:
        """The demo's own inputs."""
        name = "reviews.jsonl" if self.name == "sentiment-analysis" else f"examples/{self.name}.jsonl"
        lines = [json.loads(line) for line in (SAMPLES_FOLDER / name).read_text("utf-8").splitlines()[:40]]
        return [{key: value for key, value in line.items() if key != "id"} for line in lines]


ALL = [
    Task("sentiment-analysis", {"empty_text": {"text": " "}, "not_text": 3}),
    Task(
        "text-generation",
        {"missing_field": {}, "input_too_long": {"text": "the old man " * 400}},
        {"do_sample": False, "max_new_tokens": 24},
    ),
    Task(
        "zero-shot-classification",
        {"no_labels": {"text": "a text"}, "repeated_label": {"text": "a", "candidate_labels": ["x", "x"]}},
    ),
    Task("question-answering", {"missing_field": {"question": "Who?"}, "empty_text": {"question": "", "context": "a"}}),
    Task("fill-mask", {"no_mask": "Paris is a city.", "wrong_mask": "Paris is a <mask>."}, {"top_k": 3}),
    Task("summarization", {"not_text": None, "invalid_text": "a\0b"}),
    Task("ner", {"empty_text": "", "not_text": ["a"]}, {"aggregation_strategy": "simple"}),
    Task("translation", {"empty_text": "\n", "not_text": {"text": 1}}),
    Task("feature-extraction", {"empty_text": "", "not_text": {"text": 1}}),
    Task("text-ranking", {"missing_field": {"query": "a"}, "no_texts": {"query": "a", "texts": []}}),
]


@pytest.fixture
def deployment(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    """A deployment with one worker process for all ten samples."""
    with temporary_deployment(tmp_path, database_url=database_url, redis_url=redis_url) as deployment:
        deployment.start("worker", *(f"sample-{task.name}" for task in ALL), "--devices", "cpu")
        yield deployment


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_every_task_answers_as_the_pipeline_does_and_bad_rows_fail_alone(deployment: Deployment) -> None:
    batches = {
        task.name: deployment.client.submit(
            f"sample-{task.name}", [*task.bad.values(), *task.good], parameters=task.parameters, on_invalid="fail-row"
        )
        for task in ALL
    }

    for batch in batches.values():
        batch.wait(WAIT_TIMEOUT_SECONDS)

    assert list(batches) == list(tasks.TASKS)
    for task in ALL:
        batch = batches[task.name]
        deployment.assert_completed(batch.id, len(task.bad) + len(task.good))
        rows = sorted(batch.results(), key=lambda row: row.position)
        assert [row.error_code for row in rows] == [*task.bad, *[None] * len(task.good)], task.name
        outputs = [row.output for row in rows[len(task.bad) :]]
        check(task, outputs)


def check(task: Task, outputs: list[Any]) -> None:
    if task.name in RIGHT:
        for output, words in zip(outputs, RIGHT[task.name], strict=True):
            [said] = [
                value
                for value in (output if isinstance(output, dict) else output[0]).values()
                if isinstance(value, str)
            ]
            assert words in said, task.name
        return
    if task.name == "feature-extraction":
        embedder = SentenceTransformer(str(SAMPLES_FOLDER / task.name), device="cpu")
        np.testing.assert_allclose(outputs, embedder.encode([given["text"] for given in task.good]), atol=1e-5)
        return
    if task.name == "text-ranking":
        check_ranking(task, outputs)
        return
    reference = pipeline(task.name, model=str(SAMPLES_FOLDER / task.name), device="cpu")
    for given, output in zip(task.good, outputs, strict=True):
        assert_same(output, expected(reference, task, given), f"{task.name} {given}")


def check_ranking(task: Task, outputs: list[Any]) -> None:
    ranker = CrossEncoder(str(SAMPLES_FOLDER / task.name), device="cpu")
    for given, output in zip(task.good, outputs, strict=True):
        if "text" in given:
            assert output["score"] == pytest.approx(float(ranker.predict((given["query"], given["text"]))), abs=CLOSE)
            continue
        ranked = ranker.rank(given["query"], given["texts"])
        assert [item["index"] for item in output] == [item["corpus_id"] for item in ranked]
        assert [item["score"] for item in output] == pytest.approx([item["score"] for item in ranked], abs=CLOSE)


def expected(reference: Any, task: Task, given: dict[str, Any]) -> Any:
    if task.name == "zero-shot-classification":
        return reference(given["text"], given["candidate_labels"], **task.parameters)
    wanted = reference(given.get("text") or given["messages"], **task.parameters)
    return wanted[0] if task.name == "sentiment-analysis" else wanted


def assert_same(output: Any, wanted: Any, where: str) -> None:
    if isinstance(wanted, dict):
        assert set(output) == set(wanted), where
        for name, value in wanted.items():
            assert_same(output[name], value, where)
    elif isinstance(wanted, list):
        assert len(output) == len(wanted), where
        for one, other in zip(output, wanted, strict=True):
            assert_same(one, other, where)
    elif isinstance(wanted, str) or wanted is None:
        assert output == wanted, where
    else:
        assert output == pytest.approx(float(wanted), abs=CLOSE), where
