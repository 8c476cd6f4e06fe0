"""sentiment-analysis equals `transformers.pipeline(...)`, which gets one text at a time.

The worker sorts, packs and pads; none of it may show in an answer.
"""
# ruff: noqa: RUF001 (letters that look like others are the point of some texts)

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline as transformers_pipeline

from models.pipelines.builtin import BUILTIN_PIPELINES
from models.pipelines.pipeline import SAMPLES_FOLDER, Pipeline
from tests.conformance.conftest import RunBatches
from tests.factories import tiny_models
from worker.loading import runtime

CLOSE = 1e-4

SHORT = ["a", ".", "!", "?!", "no", "ok", "0", "love", "HATE", "it's", " x ", "-1", "__init__", "a.b.c", "§"]
PLAIN = [
    "I love this product! It's amazing.",
    "This is terrible. I hate it.",
    "Great, the product is great; great!",
    "Not bad, not good.",
    "terrible terrible terrible",
    "the the the the the the the the the the",
    "loved, hated, loving",
    "UPPER lower MiXeD 12345 67890",
    "tabs\tand\nlines\r\nand  double  spaces",
    "<b>markup</b> &amp; {braces} [SEP] </s>",
    "C:\\path\\file.txt /usr/bin https://example.org/?q=1&r=2",
    "'quotes' \"double\" `ticks` “curly” ‘single’ «guillemets»",
]
FOREIGN = [
    "世界",
    "世 界 你好，世界！",
    "これは素晴らしい製品です。",
    "이 제품은 훌륭합니다",
    "خ هذا المنتج رائع",
    "אני אוהב את זה",
    "Это ужасно",
    "Το προϊόν είναι υπέροχο",
    "यह बहुत अच्छा है",
    "ผลิตภัณฑ์นี้ยอดเยี่ยม",
    "été naïve façade Ångström",
    "e\u0301te\u0301 decomposed",
    "zero\u200bwidth\u200dand\ufeffmarks",
    "soft\u00adhyphen non\u00a0breaking",
    "😀",
    "😀😀😀 great 👍🏽",
    "👩\u200d👩\u200d👧 🇩🇪 love",
    "𝕲𝖗𝖊𝖆𝖙 ﬁne ﷺ",
    "\u202ehate\u202c it",
    "ǅ İ ß ẞ ſ",
]
LONG = ["it " * 30, "a" * 200, "love hate " * 40, "世" * 100, "great product! " * 12, "é" * 61, "the " * 62, "x " * 61]
PAIRS = [
    {"text": "love", "text_pair": "hate"},
    {"text": "a", "text_pair": "b"},
    {"text": "世界", "text_pair": "great 😀"},
    {"text": "it " * 50, "text_pair": "a"},
    {"text": "a", "text_pair": "it " * 50},
    {"text": "love it " * 30, "text_pair": "hate it " * 30},
    {"text": "no pair"},
]

# Not in the order of their lengths, so that packing has something to do; the same in every run.
INPUTS: list[Any] = [*SHORT, *PLAIN, *FOREIGN, *LONG, *PAIRS]
random.Random(7).shuffle(INPUTS)

PARAMETERS: list[dict[str, Any]] = [
    {},
    {"top_k": None},
    {"top_k": 1},
    {"top_k": 2},
    {"function_to_apply": "sigmoid"},
    {"function_to_apply": "softmax"},
    {"function_to_apply": "none"},
    {"top_k": None, "function_to_apply": "sigmoid"},
]

MULTI_LABEL = {"problem_type": "multi_label_classification"}
REGRESSION = {"problem_type": "regression"}


@dataclass(frozen=True)
class Model:
    """A tiny random model: its architecture, how many labels it has, and what else its config says."""

    architecture: str
    labels: int
    config: Mapping[str, str]

    def __str__(self) -> str:
        return "-".join([self.architecture, str(self.labels), *self.config.values()])


MODELS = [
    Model("distilbert", 1, {}),
    Model("distilbert", 2, {}),
    Model("distilbert", 3, MULTI_LABEL),
    Model("bert", 1, REGRESSION),
    Model("bert", 2, {}),
    Model("bert", 3, {}),
    Model("roberta", 2, MULTI_LABEL),
    Model("roberta", 3, {}),
    Model("gpt2", 3, {}),
]


def assert_equal_to_pipeline(entry: Pipeline, run_batches: RunBatches) -> list[Any]:
    """Hold every answer against `pipeline(...)`; returns the rows for the first set of parameters."""
    loaded = runtime.load(entry, "cpu", threads=1, micro_batch_tokens=200)
    longest = loaded.adapter._limits.max_length  # type: ignore[attr-defined]
    reference = transformers_pipeline("sentiment-analysis", model=str(entry.folder), device="cpu", dtype="float32")

    ours = run_batches(loaded, INPUTS, PARAMETERS)

    for parameters, rows in zip(PARAMETERS, ours, strict=True):
        expected = reference(INPUTS, truncation=True, max_length=longest, **parameters)
        assert {row.error_code for row in rows} == {None}
        for given, row, wanted in zip(INPUTS, rows, expected, strict=True):
            assert_same(row.output, wanted, f"{parameters} {given!r}")
    return ours[0]


def assert_same(output: Any, wanted: Any, where: str) -> None:
    assert type(output) is type(wanted), where
    if isinstance(wanted, dict):
        output, wanted = [output], [wanted]
    assert [set(each) for each in output] == [{"label", "score"}] * len(wanted), where
    assert [each["label"] for each in output] == [each["label"] for each in wanted], where
    assert [each["score"] for each in output] == pytest.approx([each["score"] for each in wanted], abs=CLOSE), where


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_equals_pipeline(model: Model, tmp_path: Path, run_batches: RunBatches) -> None:
    folder = getattr(tiny_models, model.architecture)(tmp_path / "model", num_labels=model.labels, **model.config)

    rows = assert_equal_to_pipeline(tiny_models.pipeline_for(folder), run_batches)

    cut = {
        given if isinstance(given, str) else given["text"]
        for given, row in zip(INPUTS, rows, strict=True)
        if row.truncated
    }
    assert not cut & {"love", "ok", "😀"}
    assert {"love hate " * 40, "love it " * 30} <= cut


def test_equals_pipeline_on_the_bundled_sample(run_batches: RunBatches) -> None:
    if not (SAMPLES_FOLDER / "sentiment-analysis" / "model.safetensors").is_file():
        pytest.skip("the sample is not here; make samples trains it")
    [entry] = [each for each in BUILTIN_PIPELINES if each.name == "sample-sentiment-analysis"]

    rows = assert_equal_to_pipeline(entry, run_batches)

    labels = {given: row.output["label"] for given, row in zip(INPUTS, rows, strict=True) if isinstance(given, str)}
    assert labels["I love this product! It's amazing."] == "POSITIVE"
    assert labels["This is terrible. I hate it."] == "NEGATIVE"
