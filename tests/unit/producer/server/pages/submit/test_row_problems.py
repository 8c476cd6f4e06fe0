"""Rows with the same problem share a sentence."""

import pytest

from producer.server.pages.submit.row_problems import group_problems


@pytest.mark.parametrize(
    ("problems", "sentences"),
    [
        ([], []),
        (["line 3: is empty"], ["line 3: is empty"]),
        (["line 3: is empty", "line 1,008: is empty"], ["lines 3 and 1,008: is empty"]),
        (["row 1: a", "row 2: b", "row 3: a"], ["rows 1 and 3: a", "row 2: b"]),
        ([f"line {n}: a" for n in range(5)], ["lines 0, 1, 2, 3 and 4: a"]),
        ([f"line {n}: a" for n in range(8)], ["lines 0, 1, 2, 3, 4, …: a"]),
        (["line 1: two\nlines: of it", "(and perhaps more)"], ["line 1: two\nlines: of it", "(and perhaps more)"]),
    ],
)
def test_equal_problems_are_one_sentence(problems: list[str], sentences: list[str]) -> None:
    assert group_problems(problems) == sentences
