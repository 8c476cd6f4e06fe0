"""Distributions of outputs of every task, and of outputs that no task should have."""

import math
from typing import Any

import pytest

from producer.results.summaries.distribution import (
    MAX_BUCKETS,
    Distribution,
    distribution_of,
    length_buckets,
    nice_step,
)
from producer.results.summaries.features import Features, features_of
from producer.results.summaries.samples import Sample, SampledResult


def distribution(*outputs: Any, **fields: Any) -> Distribution:
    results = tuple(
        SampledResult("succeeded", output, is_too_large=False, vector_length=None, truncated=False, model_version_id=1)
        for output in outputs
    )
    return distribution_of(Sample(results, fields.get("total", len(results))))


@pytest.mark.parametrize(
    ("output", "features"),
    [
        ({"label": "POSITIVE", "score": 0.9}, Features(("POSITIVE",), 0.9)),
        ([{"label": "A", "score": 0.7}, {"label": "B", "score": 0.3}], Features(("A",), 0.7)),
        ({"sequence": "x", "labels": ["news", "art"], "scores": [0.8, 0.2]}, Features(("news",), 0.8)),
        (
            [{"entity_group": "PER", "score": 0.5}, {"entity": "B-LOC", "score": 1.0}],
            Features(("PER", "LOC"), 0.75, entities=2),
        ),
        ([], Features(entities=0)),
        ([{"generated_text": "two words"}], Features(length=9, words=2)),
        (
            [{"generated_text": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a b"}]}],
            Features(length=3, words=2),
        ),
        ({"summary_text": "short"}, Features(length=5, words=1)),
        ({"answer": "Berlin", "score": 0.4, "start": 0, "end": 6}, Features(score=0.4, length=6, words=1)),
        ("plain", Features(length=5, words=1)),
        ({"topic": "art", "topic_score": 0.25}, Features(("art",), 0.25)),
        ({"rows": [1, 2]}, Features(length=14)),
        (True, Features(length=4)),
        (math.nan, Features(length=3)),
        ({"label": "A", "score": math.nan}, Features(("A",))),
        ([[]], Features(entities=0)),
        ([None], Features(length=4)),
        ({"generated_text": None}, Features(length=23)),
        ({"label": 1, "score": 0.5}, Features(("1",), 0.5)),
        ([{"label": True, "score": 0.5}], Features(("true",), 0.5)),
        ([{"token_str": "Paris", "score": 0.5, "token": 7, "sequence": "x"}], Features(("Paris",), 0.5)),
        (0.5, Features(score=0.5)),
        ([0.1, 2, 0.3], Features(vector_length=3)),
        ([[0.1, 0.2], [0.3, 0.4]], Features(vector_length=2)),
        ({"label": "A", "score": 10**400}, Features(("A",))),
        ([{"entity": "A", "score": 1e308}] * 9, Features(("A",) * 9, None, entities=9)),
    ],
    ids=str,
)
def test_features_follow_from_the_output(output: Any, features: Features) -> None:
    assert features_of(output) == features


def test_labels_are_counted_and_the_rest_is_summed_up() -> None:
    found = distribution(*({"label": f"label {number % 20}", "score": 0.5} for number in range(100)), total=1000)

    assert len(found.labels) == 13
    assert found.labels[0].count == 5
    assert found.labels[-1].label is None
    assert found.labels[-1].count == 40
    assert found.other_labels == 8
    assert sum(share.share for share in found.labels) == pytest.approx(1)
    assert found.is_partial


def test_scores_have_the_buckets_of_probabilities() -> None:
    found = distribution(*({"label": "A", "score": score} for score in (0.0, 0.049, 0.05, 0.99, 1.0)))

    assert [bucket.count for bucket in found.scores] == [2, 1, *[0] * 17, 2]
    assert found.median_score == 0.05


def test_other_scores_have_buckets_between_the_least_and_the_greatest() -> None:
    found = distribution(*({"score": score} for score in (-8.0, 0.0, 12.0)))
    single = distribution({"score": 5.0})

    assert (found.scores[0].low, found.scores[-1].high) == (-8.0, 12.0)
    assert sum(bucket.count for bucket in found.scores) == 3
    assert sum(bucket.count for bucket in single.scores) == 1


@pytest.mark.parametrize("scores", [(1e308, -1e308), (-5e-324, 0.0), (1.7e308, 1.7e308)])
def test_scores_too_far_apart_or_too_close_have_no_buckets(scores: tuple[float, ...]) -> None:
    found = distribution(*({"score": score} for score in scores))

    assert found.scores == ()
    assert found.median_score is None or math.isfinite(found.median_score)


@pytest.mark.parametrize("score", [1e300, -1e16, 0.5, 7])
def test_equal_scores_have_a_bucket(score: float) -> None:
    found = distribution(*({"score": score} for _ in range(3)))

    assert sum(bucket.count for bucket in found.scores) == 3


def test_vectors_of_an_own_task_have_a_length() -> None:
    assert distribution([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]).vector_length == 3


@pytest.mark.parametrize("values", [[0], [7], [0, 1], [3, 3, 3], list(range(1000)), [10**9, 0], [99, 100, 101]])
def test_lengths_have_round_buckets(values: list[int]) -> None:
    buckets = length_buckets(values)

    assert 1 <= len(buckets) <= MAX_BUCKETS + 1
    assert sum(bucket.count for bucket in buckets) == len(values)
    assert buckets[0].low <= min(values)
    assert buckets[-1].high >= max(values)
    assert {math.isclose(bucket.high - bucket.low, buckets[0].high - buckets[0].low) for bucket in buckets} == {True}


def test_steps_are_round() -> None:
    assert [nice_step(least) for least in (0.1, 1, 1.1, 3, 5.5, 10, 11, 99, 2500)] == [
        1, 1, 2, 5, 10, 10, 20, 100, 5000
    ]  # fmt: skip


def test_entities_are_counted_in_each_row() -> None:
    entity = {"entity_group": "PER", "score": 1.0}

    found = distribution([], [entity], [entity] * 3, [entity] * 50)

    assert [(share.label, share.count) for share in found.entities if share.count] == [
        ("0", 1),
        ("1", 1),
        ("3", 1),
        ("8 or more", 1),
    ]
    assert found.are_entities


def test_results_that_say_nothing_are_counted_as_such() -> None:
    rows = (
        SampledResult("failed", None, False, None, False, 2),
        SampledResult("succeeded", None, True, None, True, 1),
        SampledResult("succeeded", None, False, 384, False, 1),
        SampledResult("cancelled", None, False, None, False, None),
    )

    found = distribution_of(Sample(rows, 4))

    assert (found.succeeded, found.too_large, found.truncated, found.vector_length) == (2, 1, 1, 384)
    assert found.versions == {2: 1, 1: 2}
    assert not found.is_partial
    assert distribution_of(Sample((), 0)).labels == ()


def test_long_labels_are_cut() -> None:
    found = distribution({"label": "x" * 10_000, "score": 1})

    assert found.labels[0].label == "x" * 200
