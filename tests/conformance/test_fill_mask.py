"""fill-mask equals `transformers.pipeline(...)`, which gets one text at a time."""

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
    "@",
    "@.",
    "I love this @! It's amazing.",
    "@ is terrible",
    "great 😀 @",
    "世界 @",
    "e\u0301te\u0301 @ naïve ﬁ ﷺ",
    "  leading and\ttabs\n@ lines ",
    "خ هذا @ رائع",
    "@ @",
    "love@hate",
    "the @ of the @ and @",
    "@@@",
    "[SEP] literal </s> @ [PAD] words",
    "zero\u200bwidth \u202e@",
    "it " * 18 + "@",
    "@" + " a" * 20 + " @",
]
random.Random(7).shuffle(TEXTS)

PARAMETERS: list[dict[str, Any]] = [{}, {"top_k": 1}, {"top_k": 50}]
TARGETS = {
    "bert": ["great", "love", "Love", "a"],
    "distilbert": ["terrible"],
    "electra": ["it"],
    "roberta": ["a", "b"],
    "modernbert": ["x", "y", "[CLS]"],
    "deberta-v2": ["▁love", "love", "ing"],
    "xlm-roberta": ["▁the", "great"],
    "bart": ["a", "b"],
}


@pytest.mark.parametrize("architecture", [*encoders.ARCHITECTURES, "bart"])
def test_equals_pipeline(architecture: str, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = encoders.masked_lm(tmp_path / "model", architecture)
    loaded = runtime.load(encoders.pipeline_for(folder, "fill-mask"), "cpu", threads=1, micro_batch_tokens=200)
    reference = transformers_pipeline("fill-mask", model=str(folder), device="cpu", dtype="float32")
    inputs = [text.replace("@", reference.tokenizer.mask_token) for text in TEXTS]
    targets = TARGETS[architecture]
    parameters = [*PARAMETERS, {"targets": targets}, {"targets": targets[0]}, {"targets": targets, "top_k": 2}]

    ours = run_batches(loaded, inputs, parameters)

    assert not loaded.adapter._lm_head.full  # type: ignore[attr-defined]
    for given, rows in zip(parameters, ours, strict=True):
        assert {row.error_code for row in rows} == {None}
        for text, row in zip(inputs, rows, strict=True):
            assert_same(row.output, reference(text, **given), f"{given} {text!r}")


def assert_same(output: Any, wanted: Any, where: str) -> None:
    assert len(output) == len(wanted), where
    for mine, theirs in zip(output, wanted, strict=True):
        if isinstance(theirs, list):
            assert_same(mine, theirs, where)
            continue
        assert list(mine) == list(theirs), where
        # Vocabularies of bytes have one for NUL, which no database stores.
        kept = {name: text.replace("\0", "\ufffd") for name, text in theirs.items() if isinstance(text, str)}
        assert {**mine, "score": 0} == {**theirs, **kept, "score": 0}, where
        assert mine["score"] == pytest.approx(theirs["score"], abs=CLOSE), where


def test_a_text_without_a_mask_costs_no_other(tmp_path: Path, run_batches: RunBatches) -> None:
    folder = encoders.masked_lm(tmp_path / "model", "bert")
    loaded = runtime.load(encoders.pipeline_for(folder, "fill-mask"), "cpu", threads=1)
    inputs = ["a [MASK]", "a", "a <mask>", "[MASK] a", "it " * 70 + "[MASK]", "[MASK]" + " it" * 70]

    [rows] = run_batches(loaded, inputs, [{}])

    assert [row.error_code for row in rows] == [None, "no_mask", "wrong_mask", None, "mask_truncated", None]
    assert [row.truncated for row in rows] == [False, False, False, False, False, True]
