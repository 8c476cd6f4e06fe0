from typing import Any

import pytest

from worker.task_checks.comparison import is_same, shape_problem


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": [1.0, "x"]}, {"a": [1.000001, "x"]}, True),
        ({"a": 1.0}, {"a": 1.1}, False),
        ({"a": 1.0}, {"b": 1.0}, False),
        ([1.0], [1.0, 1.0], False),
        (True, 1, False),
        ("1", 1, False),
        (None, None, True),
        (1e6, 1e6 + 1, True),
        (1e6, 1e6 + 100, False),
    ],
)
def test_answers_are_the_same_within_a_tolerance(one: Any, other: Any, expected: bool) -> None:
    assert is_same(one, other, 1e-5) is expected


@pytest.mark.parametrize(
    ("output", "example", "expected"),
    [
        ({"a": 1, "b": [{"c": "x"}]}, {"a": 2.5, "b": [{"c": "y"}, {"c": "z"}]}, None),
        ({"a": None}, {"a": "x"}, None),
        ({"a": [1]}, {"a": []}, None),
        ({"a": 1}, {"a": 1, "b": 2}, "the output lacks b"),
        ({"a": [{"c": 1}]}, {"a": [{"c": "x"}]}, "the output.a[0].c is a number, and text in example_output"),
        ([], {}, "the output is a list, and an object in example_output"),
        (True, 1, "the output is a boolean, and a number in example_output"),
    ],
)
def test_an_output_has_the_shape_of_the_example(output: Any, example: Any, expected: str | None) -> None:
    assert shape_problem(output, example) == expected
