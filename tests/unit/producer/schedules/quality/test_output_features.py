"""What an output says, for each task's shape."""

from typing import Any

import pytest

from models import tasks
from producer.schedules.quality.output_features import NOTHING, UNKNOWN, Said, said


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"label": "GOOD", "score": 0.75}, Said(("GOOD",), 0.75)),
        ([{"label": "GOOD", "score": 0.75}, {"label": "BAD", "score": 0.25}], Said(("GOOD",), 0.75)),
        ({"sequence": "x", "labels": ["phone", "tablet"], "scores": [0.9, 0.1]}, Said(("phone",), 0.9)),
        ([{"entity_group": "PER", "score": 1}, {"entity_group": "LOC", "score": 0.5}], Said(("PER", "LOC"), 0.75)),
        ([{"entity": "B-PER", "score": 0.5}], Said(("B-PER",), 0.5)),
        ({"answer": "Berlin", "score": 0.5, "start": 1, "end": 7}, Said((), 0.5, 6)),
        ([{"answer": " ", "score": 0.5}, {"answer": "x", "score": 0.1}], Said((), 0.5, 1, empty=True)),
        ([{"score": 0.5, "token": 7, "token_str": "capital", "sequence": "x"}], Said((), 0.5)),
        ([[{"score": 0.5, "token": 7}], [{"score": 0.1, "token": 8}]], Said((), 0.5)),
        ([{"generated_text": "abc"}], Said(length=3)),
        ([{"summary_text": "ab"}, {"summary_text": "abc"}], Said(length=2)),
        ([{"translation_text": ""}], Said(length=0, empty=True)),
        ([{"generated_text": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}],
         Said(length=5)),
        ([{"generated_text": []}], Said()),
        ([], NOTHING),
        ({"labels": [], "scores": []}, NOTHING),
        ("bare", UNKNOWN), (None, UNKNOWN), (7, UNKNOWN), ({"new": 1}, UNKNOWN), ([["x"]], UNKNOWN),
    ],
)  # fmt: skip
def test_what_is_heard(output: Any, expected: Said) -> None:
    assert said(output) == expected


@pytest.mark.parametrize("name", list(tasks.TASKS))
def test_each_task_s_example_says_something(name: str) -> None:
    heard = said(tasks.find(name).example_output)

    assert heard not in (NOTHING, UNKNOWN)
    assert heard.labels or heard.score is not None or heard.length
