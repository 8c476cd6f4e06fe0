"""Scores of windows become one score for each label."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.tasks.spec import WindowAggregation
from worker.adapters.outputs.label_scores import aggregate_windows

SCORES = np.array([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1], [0.7, 0.3]], np.float32)
AGGREGATIONS: tuple[WindowAggregation, ...] = ("mean", "max", "first", "weighted")


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("mean", [0.55, 0.45]), ("max", [0.9, 0.9]), ("first", [0.1, 0.9]), ("weighted", [0.412, 0.588])],
)
def test_each_aggregation(aggregation: WindowAggregation, expected: list[float]) -> None:
    scores = aggregate_windows(SCORES, aggregation, lambda: [10, 10, 4, 1])

    assert scores.dtype == np.float32
    assert scores.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_one_window_keeps_its_bits(aggregation: WindowAggregation) -> None:
    scores = aggregate_windows(SCORES[:1], aggregation, lambda: pytest.fail("nothing is weighed"))

    assert scores.tobytes() == SCORES[0].tobytes()


@given(
    table=arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 4)),
        elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False),
    ),
    aggregation=st.sampled_from(AGGREGATIONS),
)
def test_a_score_lies_between_those_of_the_windows(table: Any, aggregation: WindowAggregation) -> None:
    scores = aggregate_windows(table, aggregation, lambda: range(1, len(table) + 1))

    assert (table.min(axis=0) <= scores).all()
    assert (scores <= table.max(axis=0)).all()
