"""ner equals `transformers.pipeline(...)`, which gets one text at a time."""
# ruff: noqa: RUF001 (letters that look like others are the point of some texts)

import random
from pathlib import Path
from typing import Any

import pytest
from transformers import ByT5Tokenizer
from transformers import pipeline as transformers_pipeline

from tests.conformance.conftest import RunBatches
from tests.factories import tiny_encoders as encoders
from worker.loading import runtime

CLOSE = 1e-4

LONG = "love hate terrible the product " * 16
INPUTS = [
    "love",
    ".",
    "Sarah lives in London.",
    "I love this product! It's amazing.",
    "loving it, hated the product-line",
    "世界",
    "世 界 你好，世界！",
    "👩\u200d👩\u200d👧 🇩🇪 love 😀😀",
    "e\u0301te\u0301 naïve ﬁ ﷺ İ ß",
    "\u200b",
    "  leading and\ttabs\nand lines  ",
    "خ هذا المنتج رائع",
    "[SEP] literal </s> [MASK] words",
    LONG,
    "世界 is great; " * 20,
    "a" * 150,
    "été " * 40,
    "x.y-z " * 30,
    "it " * 62,
]
random.Random(7).shuffle(INPUTS)

CUT: list[dict[str, Any]] = [
    {},
    {"aggregation_strategy": "none", "ignore_labels": []},
    {"aggregation_strategy": "simple"},
    {"aggregation_strategy": "first"},
    {"aggregation_strategy": "average"},
    {"aggregation_strategy": "max", "ignore_labels": ["O", "PER", "B-LOC"]},
    {"aggregation_strategy": "simple", "ignore_labels": []},
]
IN_WINDOWS: list[dict[str, Any]] = [
    {"stride": 0},
    {"aggregation_strategy": "simple", "stride": 0},
    {"aggregation_strategy": "first", "stride": 10},
    {"aggregation_strategy": "average", "stride": 31},
    {"aggregation_strategy": "max", "stride": 50},
]


# What transformers warns of for every token of tokenizers that know no words.
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("architecture", encoders.ARCHITECTURES)
def test_equals_pipeline(architecture: str, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = encoders.token_classifier(tmp_path / "model", architecture)
    loaded = runtime.load(encoders.pipeline_for(folder, "ner"), "cpu", threads=1, micro_batch_tokens=300)

    cut, in_windows = (
        assert_equal(folder, loaded, CUT, run_batches),
        assert_equal(folder, loaded, IN_WINDOWS, run_batches),
    )

    long = INPUTS.index(LONG)
    assert cut[0][long].truncated
    assert not cut[0][INPUTS.index("love")].truncated
    assert not any(row.truncated for rows in in_windows for row in rows)
    starts = [entity["start"] for entity in in_windows[1][long].output]
    assert max(starts) > 200, "the end of a long text is read too"
    assert starts == sorted(starts)


def test_equals_pipeline_where_padding_would_change_the_answer(tmp_path: Path, run_batches: RunBatches) -> None:
    # In windows it would not: there the pipeline itself pads a text's last one.
    folder = encoders.token_classifier(tmp_path / "model", "convbert")
    loaded = runtime.load(encoders.pipeline_for(folder, "ner"), "cpu", threads=1, micro_batch_tokens=300)

    assert_equal(folder, loaded, CUT[:3], run_batches)


def test_equals_pipeline_with_a_tokenizer_in_plain_python(tmp_path: Path, run_batches: RunBatches) -> None:
    bytewise = ByT5Tokenizer(model_max_length=encoders.MAX_POSITIONS)
    folder = encoders.token_classifier(tmp_path / "model", "bert", tokenizer=bytewise)
    loaded = runtime.load(
        encoders.pipeline_for(folder, "token-classification"), "cpu", threads=1, micro_batch_tokens=300
    )

    rows = assert_equal(folder, loaded, CUT[:3], run_batches)
    refused = run_batches(loaded, ["love"], [{"aggregation_strategy": "max"}, {"stride": 3}])

    assert rows[0][INPUTS.index("a" * 150)].truncated
    assert [[row.error_code for row in each] for each in refused] == [["needs_fast_tokenizer"]] * 2


def assert_equal(
    folder: Path, loaded: Any, parameters: list[dict[str, Any]], run_batches: RunBatches
) -> list[list[Any]]:
    reference = transformers_pipeline("ner", model=str(folder), device="cpu", dtype="float32")
    ours = run_batches(loaded, INPUTS, parameters)
    for given, rows in zip(parameters, ours, strict=True):
        assert {row.error_code for row in rows} == {None}
        for text, row in zip(INPUTS, rows, strict=True):
            assert_same(row.output, reference(text, **given), f"{given} {text!r}")
    return ours


def assert_same(output: list[dict[str, Any]], wanted: list[dict[str, Any]], where: str) -> None:
    assert [list(each) for each in output] == [list(each) for each in wanted], where
    for mine, theirs in zip(output, wanted, strict=True):
        assert {**mine, "score": 0} == {**theirs, "score": 0}, where
        assert mine["score"] == pytest.approx(float(theirs["score"]), abs=CLOSE), where
