import json
import sys

import pytest

from models.pipelines.builtin import BUILTIN_PIPELINES
from producer.dry_run.input_lengths import LengthHistogram

BY_NAME = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}
SAMPLE, HUB = BY_NAME["sample-sentiment-analysis"], BY_NAME["sentiment-analysis"]


def documents(*texts: str) -> list[str]:
    return [json.dumps({"text": text}) for text in texts]


def test_characters_are_counted_without_a_tokenizer() -> None:
    lengths = LengthHistogram.for_pipeline(HUB)

    lengths.add(documents("a", "abcd", "abcde", "x" * 8))
    lengths.add([json.dumps({"text": "ab", "candidate_labels": ["c", "d"]}), "{}"])

    assert (lengths.unit, lengths.max_length) == ("characters", 8)
    assert lengths.bins() == [(1, 2), (2, 0), (4, 1), (8, 3)]


def test_tokens_are_counted_with_the_models_own_tokenizer() -> None:
    pytest.importorskip("tokenizers")
    lengths = LengthHistogram.for_pipeline(SAMPLE)

    lengths.add(documents("good " * 100))

    assert lengths.unit == "tokens"
    assert 100 <= lengths.max_length < 500


def test_characters_are_counted_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    assert LengthHistogram.for_pipeline(SAMPLE).unit == "characters"


def test_no_inputs_make_an_empty_histogram() -> None:
    lengths = LengthHistogram.for_pipeline(HUB)

    lengths.add([])

    assert lengths.bins() == []
