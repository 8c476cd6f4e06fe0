"""Vectors in numbers: measured right, in chunks or not, with NumPy or without, and without a single output."""

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import sqrt

import pytest

from models import vectors
from producer.schedules.quality import vector_stats
from producer.schedules.quality.vector_stats import VectorAccumulator, VectorStats


def measured(*numbers: Sequence[float]) -> VectorStats:
    accumulator = VectorAccumulator()
    for vector in numbers:
        accumulator.add(vectors.from_numbers(vector))
    result = accumulator.summarize()
    assert result is not None
    return result


def test_norms_zero_and_equal_vectors() -> None:
    result = measured([3.0, 4.0], [0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [0.0, 0.0])

    assert (result.dimensions, result.norms.count, result.zero, result.equal) == (2, 5, 2, 2)
    assert (result.norms.mean, result.norms.min, result.norms.max) == (pytest.approx(11 / 5), 0.0, 5.0)


def test_the_mean_vector_and_the_spread_around_it() -> None:
    result = measured(*[[1.0, 2.0], [3.0, 2.0]] * 10)

    assert result.mean == (2.0, 2.0)
    assert result.spread == pytest.approx(1.0)


def test_a_few_vectors_have_no_mean_that_would_show_an_output() -> None:
    assert measured(*[[1.0, 2.0]] * 19).mean == ()
    assert measured(*[[1.0, 2.0]] * 20).mean == (1.0, 2.0)


def test_chunks_and_the_way_without_numpy_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    rows = [[rng.gauss(0.5, 1.0) for _ in range(7)] for _ in range(100)]
    whole = measured(*rows)
    monkeypatch.setattr(vector_stats, "CHUNK_BYTES", 3 * 7 * 4)
    in_chunks = measured(*rows)
    monkeypatch.setitem(sys.modules, "numpy", None)
    slow = measured(*rows)

    for other in (in_chunks, slow):
        assert other.mean == pytest.approx(whole.mean, rel=1e-4)
        assert (other.spread, other.norms.mean) == (pytest.approx(whole.spread), pytest.approx(whole.norms.mean))
    assert whole.norms.mean == pytest.approx(sum(sqrt(sum(x * x for x in row)) for row in rows) / 100)


def test_a_long_vector_is_summed_up_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_stats, "MAX_MEAN_NUMBERS", 2)
    for _ in range(2):
        result = measured(*[[1.0, 2.0, 2.0]] * 20)
        assert (result.mean, result.spread, result.norms.mean) == ((1.0, 2.0), 0.0, 3.0)
        monkeypatch.setitem(sys.modules, "numpy", None)


def test_vectors_of_other_dimensions_are_left_out() -> None:
    assert measured([1.0, 0.0], [1.0, 0.0, 0.0]).norms.count == 1


def test_equal_vectors_are_counted_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_stats, "MAX_DISTINCT_HASHES", 2)

    assert measured([1.0], [2.0], [3.0], [3.0], [1.0]).equal == 1


def test_they_are_the_same_after_json() -> None:
    result = measured(*[[1.0, 2.0]] * 20)

    assert VectorStats.from_dict(json.loads(json.dumps(asdict(result)))) == result


def test_nothing_of_nothing() -> None:
    assert VectorAccumulator().summarize() is None
