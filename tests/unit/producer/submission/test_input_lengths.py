import json
import sys

import pytest

from models.pipelines.builtin import BUILT_IN
from producer.submission.input_lengths import Lengths

NAMED = {pipeline.name: pipeline for pipeline in BUILT_IN}
SAMPLE, HUB = NAMED["sample-sentiment-analysis"], NAMED["sentiment-analysis"]


def documents(*texts: str) -> list[str]:
    return [json.dumps({"text": text}) for text in texts]


def test_characters_are_counted_where_no_tokenizer_is_at_hand() -> None:
    lengths = Lengths.of(HUB)

    lengths.add(documents("a", "abcd", "abcde", "x" * 8))
    lengths.add([json.dumps({"text": "ab", "candidate_labels": ["c", "d"]}), "{}"])

    assert (lengths.unit, lengths.longest) == ("characters", 8)
    assert lengths.rows() == [(1, 2), (2, 0), (4, 1), (8, 3)]


def test_tokens_are_counted_with_the_models_own_tokenizer() -> None:
    pytest.importorskip("tokenizers")
    lengths = Lengths.of(SAMPLE)

    lengths.add(documents("good " * 100))

    assert lengths.unit == "tokens"
    assert 100 <= lengths.longest < 500


def test_without_the_package_characters_have_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    assert Lengths.of(SAMPLE).unit == "characters"


def test_of_nothing_there_is_no_histogram() -> None:
    lengths = Lengths.of(HUB)
    lengths.add([])

    assert lengths.rows() == []
