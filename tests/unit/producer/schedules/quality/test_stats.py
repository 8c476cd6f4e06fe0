"""A run's results in numbers: counted right, in any order, and the same after JSON."""

import json
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.states import JobOutcome
from producer.results.pages import ResultRow
from producer.schedules.quality import stats
from producer.schedules.quality.stats import QualityStats, StatsAccumulator
from tests.factories.result_rows import FAILED_FIELDS, result_row


def gauged(*rows: ResultRow) -> QualityStats:
    gauge = StatsAccumulator()
    assert list(gauge.add_while_iterating(rows)) == list(rows)
    return gauge.summarize()


def labelled(label: str, score: float = 0.5, **fields: Any) -> ResultRow:
    return result_row(output={"label": label, "score": score}, **fields)


def written(text: str) -> ResultRow:
    return result_row(output=[{"summary_text": text}])


def test_rows_by_what_became_of_them() -> None:
    found = gauged(
        labelled("GOOD"),
        labelled("GOOD", truncated=True),
        labelled("BAD", reused_from="batch_0"),
        result_row(**FAILED_FIELDS),
        result_row(**{**FAILED_FIELDS, "error_code": "empty_text", "truncated": True}),
        result_row(status=JobOutcome.CANCELLED, output=None, error_code="cancelled"),
    )

    assert (found.rows, found.succeeded, found.failed, found.reused, found.computed_rows) == (6, 3, 2, 1, 4)
    assert found.truncated == 1
    assert found.codes == {"text_too_long": 1, "empty_text": 1, "cancelled": 1}
    assert found.label_shares == {"GOOD": pytest.approx(2 / 3), "BAD": pytest.approx(1 / 3)}
    assert found.versions == {"m@abc": 3}


def test_of_nothing() -> None:
    empty = gauged()

    assert (empty.rows, empty.computed_rows, empty.label_shares, empty.scores, empty.lengths) == (0, 0, {}, None, None)
    assert QualityStats.from_dict(empty.as_dict()) == empty


def test_entities_are_counted_each_and_rows_once() -> None:
    two = [{"entity_group": "PER", "score": 1.0}, {"entity_group": "PER", "score": 0.5}]
    found = gauged(
        result_row(output=two), result_row(output=[{"entity_group": "LOC", "score": 0.25}]), result_row(output=[])
    )

    assert (dict(found.labels), found.labelled, found.empty) == ({"PER": 2, "LOC": 1}, 2, 1)
    assert found.scores
    assert found.scores.mean == 0.5


def test_models_that_answered() -> None:
    found = gauged(labelled("a"), labelled("a", revision="def"), labelled("a", revision="def"))

    assert found.versions == {"m@def": 2, "m@abc": 1}


def test_rare_labels_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MAX_LABELS", 2)
    monkeypatch.setattr(stats, "MAX_DISTINCT_LABELS", 4)

    found = gauged(*map(labelled, "aaabbcdefg"), labelled("a"))

    assert (found.labels, found.other_labels, found.labelled) == ({"a": 4, "b": 2}, 5, 11)
    assert sum(found.label_shares.values()) == pytest.approx(6 / 11)


def test_the_most_frequent_stand_first_though_a_database_orders_them_anew() -> None:
    stored = gauged(*map(labelled, "abbccc")).as_dict()

    again = QualityStats.from_dict({**stored, "labels": dict(sorted(stored["labels"].items()))})

    assert list(again.label_shares) == ["c", "b", "a"]


def test_lengths_by_nearest_rank() -> None:
    found = gauged(*(written("x" * length) for length in range(1, 101)), written(" "))

    assert found.lengths
    assert (found.lengths.p50, found.lengths.p95, found.lengths.max) == (50, 95, 100)
    assert (found.lengths.count, found.empty) == (101, 1)


@given(st.lists(st.integers(min_value=0, max_value=60), min_size=1))
def test_spreads_are_those_of_a_statistician(lengths: list[int]) -> None:
    found = gauged(*(written("x" * length) for length in lengths)).lengths

    assert found
    assert found.mean == pytest.approx(statistics.mean(lengths))
    assert found.deviation == pytest.approx(statistics.stdev(lengths) if len(lengths) > 1 else 0)
    assert (found.min, found.max, found.p50) == (min(lengths), max(lengths), statistics.median_low(lengths))


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_json_and_back(labels: list[str]) -> None:
    found = gauged(*map(labelled, labels), written("abc"), result_row(**FAILED_FIELDS))

    assert QualityStats.from_dict({**json.loads(json.dumps(found.as_dict())), "added_later": 1}) == found
