"""What an output says, for each task's shape."""

from typing import Any

import pytest

from models import tasks
from producer.schedules.quality.output_features import EMPTY_OUTPUT, NO_FEATURES, OutputFeatures, extract_features


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"label": "GOOD", "score": 0.75}, OutputFeatures(("GOOD",), 0.75)),
        ([{"label": "GOOD", "score": 0.75}, {"label": "BAD", "score": 0.25}], OutputFeatures(("GOOD",), 0.75)),
        ({"sequence": "x", "labels": ["phone", "tablet"], "scores": [0.9, 0.1]}, OutputFeatures(("phone",), 0.9)),
        (
            [{"entity_group": "PER", "score": 1}, {"entity_group": "LOC", "score": 0.5}],
            OutputFeatures(("PER", "LOC"), 0.75),
        ),
        ([{"entity": "B-PER", "score": 0.5}], OutputFeatures(("B-PER",), 0.5)),
        ({"answer": "Berlin", "score": 0.5, "start": 1, "end": 7}, OutputFeatures((), 0.5, 6)),
        ([{"answer": " ", "score": 0.5}, {"answer": "x", "score": 0.1}], OutputFeatures((), 0.5, 1, empty=True)),
        ([{"score": 0.5, "token": 7, "token_str": "capital", "sequence": "x"}], OutputFeatures((), 0.5)),
        ([[{"score": 0.5, "token": 7}], [{"score": 0.1, "token": 8}]], OutputFeatures((), 0.5)),
        ([{"generated_text": "abc"}], OutputFeatures(length=3)),
        ([{"summary_text": "ab"}, {"summary_text": "abc"}], OutputFeatures(length=2)),
        ([{"translation_text": ""}], OutputFeatures(length=0, empty=True)),
        (
            [{"generated_text": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}],
            OutputFeatures(length=5),
        ),
        ([{"generated_text": []}], OutputFeatures()),
        ({"score": 0.75}, OutputFeatures((), 0.75)),
        ([{"index": 2, "score": 0.9, "text": "x"}, {"index": 0, "score": 0.1}], OutputFeatures((), 0.9)),
        ([[[0.5, 0.25]]], NO_FEATURES),  # vectors of tokens
        ([], EMPTY_OUTPUT),
        ({"labels": [], "scores": []}, EMPTY_OUTPUT),
        ("bare", NO_FEATURES),
        (None, NO_FEATURES),
        (7, NO_FEATURES),
        ({"new": 1}, NO_FEATURES),
        ([["x"]], NO_FEATURES),
    ],
)
def test_what_is_heard(output: Any, expected: OutputFeatures) -> None:
    assert extract_features(output) == expected


@pytest.mark.parametrize("name", sorted({*tasks.TASKS} - {"feature-extraction"}))  # `vector_stats` measures it
def test_each_task_s_example_says_something(name: str) -> None:
    requests = extract_features(tasks.find_spec(name).example_output)

    assert requests not in (EMPTY_OUTPUT, NO_FEATURES)
    assert requests.labels or requests.score is not None or requests.length
