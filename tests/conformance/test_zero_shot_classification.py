"""zero-shot-classification equals `transformers.pipeline(...)`, which gets one text at a time."""

import random
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline as transformers_pipeline

from tests.conformance.conftest import RunBatches
from tests.factories import tiny_encoders as encoders
from worker.loading import runtime

CLOSE = 1e-4

TEXTS = [
    "love",
    "I love this product! It's amazing.",
    "terrible",
    "great 😀",
    "世界",
    "e\u0301te\u0301 naïve ﬁ",
    ".",
    "\u200b",
    "خ هذا المنتج رائع",
    "love hate " * 40,
    "世" * 100,
    "a" * 200,
    "[SEP] literal </s> words",
    "zero\u200bwidth \u202ehate",
]
OWN = [
    {"text": "love it", "candidate_labels": ["great"]},
    {"text": "hate it", "candidate_labels": "great, terrible,, a product "},
    {"text": "the " * 40, "candidate_labels": ["a", "{}", "世界", "with, comma", " padded "]},
]
INPUTS: list[Any] = [*TEXTS, *OWN]
random.Random(7).shuffle(INPUTS)

LABELS = ["love", "hate", "great product"]
PARAMETERS: list[dict[str, Any]] = [
    {"candidate_labels": LABELS},
    {"candidate_labels": "love, hate", "multi_label": True},
    {"candidate_labels": ["love"], "hypothesis_template": "It is {}; {{so}}."},
    {"candidate_labels": LABELS, "hypothesis_template": "{}", "multi_label": True},
]

MODELS = [
    *((architecture, encoders.NLI_LABELS) for architecture in (*encoders.ARCHITECTURES, "bart")),
    ("bert", ("Entailment", "neutral", "contradiction")),
    ("distilbert", ("no", "entail")),
]


@pytest.mark.parametrize(("architecture", "labels"), MODELS)
def test_equals_pipeline(architecture: str, labels: tuple[str, ...], tmp_path: Path, run_batches: RunBatches) -> None:
    folder = encoders.nli_model(tmp_path / "model", architecture, labels)
    entry = encoders.pipeline_for(folder, "zero-shot-classification")
    loaded = runtime.load(entry, "cpu", threads=1, micro_batch_tokens=400)
    reference = transformers_pipeline("zero-shot-classification", model=str(folder), device="cpu", dtype="float32")

    ours = run_batches(loaded, INPUTS, PARAMETERS)

    for parameters, rows in zip(PARAMETERS, ours, strict=True):
        assert {row.error_code for row in rows} == {None}
        for given, row in zip(INPUTS, rows, strict=True):
            whole = {"text": given} if isinstance(given, str) else given
            wanted = reference(
                whole["text"],
                **{
                    **parameters,
                    "candidate_labels": parameters["candidate_labels"],
                    **{k: v for k, v in whole.items() if k != "text"},
                },
            )
            assert_same(row.output, wanted, f"{parameters} {given!r}")
    cut = {given for given, row in zip(INPUTS, ours[0], strict=True) if isinstance(given, str) and row.truncated}
    assert "love hate " * 40 in cut
    assert not cut & {"love", "."}


def assert_same(output: Any, wanted: dict[str, Any], where: str) -> None:
    assert list(output) == ["sequence", "labels", "scores"], where
    assert output["sequence"] == wanted["sequence"], where
    assert output["labels"] == wanted["labels"], where
    assert output["scores"] == pytest.approx(wanted["scores"], abs=CLOSE), where


def test_a_text_that_can_t_be_answered_costs_no_other(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = encoders.nli_model(tmp_path / "model", "bert")
    loaded = runtime.load(encoders.pipeline_for(folder, "zero-shot-classification"), "cpu", threads=1)
    inputs = ["love", {"text": "great", "candidate_labels": ["a", "it " * 70]}, "hate"]

    [rows] = run_batches(loaded, inputs, [{"candidate_labels": LABELS}])

    assert [row.error_code for row in rows] == [None, "hypothesis_too_long", None]
