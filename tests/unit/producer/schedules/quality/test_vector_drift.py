"""Drift of vectors: a turn, a collapse and other norms are told; chance and another model are not."""

import json
import random
from collections.abc import Callable

import pytest

from producer.schedules.quality.drift import Drift, measure_drift
from producer.schedules.quality.stats import QualityStats, StatsAccumulator
from tests.factories.result_rows import vector_row

Draw = Callable[[random.Random], list[float]]


def vector_run(seed: int, draw: Draw, rows: int = 200, revision: str = "abc") -> QualityStats:
    rng, accumulator = random.Random(seed), StatsAccumulator()
    for position in range(rows):
        accumulator.add(vector_row(position, draw(rng), revision=revision))
    return accumulator.summarize()


def around(*mean: float, deviation: float = 0.5) -> Draw:
    return lambda rng: [rng.gauss(number, deviation) for number in mean]


def significant(found: Drift) -> set[str]:
    return {shift.metric for shift in found.shifts if shift.is_significant}


ONE_WAY = around(1.0, 0.2, 0.0, 0.0)


def test_samples_of_the_same_texts_do_not_drift() -> None:
    along_one_line: Draw = lambda rng: [1.0, rng.gauss(0.0, 2.0), 0.0]  # noqa: E731
    for draw in (ONE_WAY, along_one_line):
        for seed in range(60):
            found = measure_drift(vector_run(seed, draw, 40), [vector_run(1_000 + seed, draw, 40)])
            assert significant(found) == set(), (seed, found.description)


def test_a_mean_vector_that_turned_is_told() -> None:
    found = measure_drift(vector_run(1, around(0.2, 1.0, 0.0, 0.0)), [vector_run(2, ONE_WAY), vector_run(3, ONE_WAY)])

    assert significant(found) == {"direction"}
    assert found.max_shift == pytest.approx(1 - 0.4 / 1.04, abs=0.1)
    assert found.description.startswith("mean vector turned to a cosine of 0.")


def test_vectors_that_collapsed_are_told() -> None:
    constant: Draw = lambda _: [1.0, 0.2, 0.0, 0.0]  # noqa: E731
    zero: Draw = lambda _: [0.0] * 4  # noqa: E731

    assert "equal vectors" in significant(measure_drift(vector_run(1, constant), [vector_run(2, ONE_WAY)]))
    assert {"zero vectors", "equal vectors", "norm"} <= significant(
        measure_drift(vector_run(1, zero), [vector_run(2, ONE_WAY)])
    )


def test_longer_vectors_are_told() -> None:
    found = measure_drift(vector_run(1, around(2.0, 0.4, 0.0, 0.0, deviation=1.0)), [vector_run(2, ONE_WAY)])

    assert significant(found) == {"norm"}
    assert found.max_shift == pytest.approx(0.5, abs=0.1)


def test_another_model_s_direction_and_norm_say_nothing() -> None:
    other = vector_run(1, around(0.0, 0.0, 3.0, 3.0), revision="def")

    assert significant(measure_drift(other, [vector_run(2, ONE_WAY)])) == set()


def test_runs_without_vectors_are_no_baseline() -> None:
    labels = StatsAccumulator().summarize()
    stored = QualityStats.from_dict(json.loads(json.dumps(labels.as_dict())))

    assert measure_drift(vector_run(1, ONE_WAY), [stored]).max_shift == 0.0
    assert measure_drift(stored, [vector_run(1, ONE_WAY)]).max_shift == 0.0
