"""A run's results in numbers: counted right, in any order, and the same after JSON."""

import json
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.states import JobOutcome
from producer.results.result_row import ResultRow
from producer.schedules.quality import stats
from producer.schedules.quality.stats import QualityStats, StatsAccumulator
from tests.factories.guard_rows import verdict
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
    result = gauged(
        labelled("GOOD"),
        labelled("GOOD", truncated=True),
        labelled("BAD", reused_from="batch_0"),
        result_row(**FAILED_FIELDS),
        result_row(**{**FAILED_FIELDS, "error_code": "empty_text", "truncated": True}),
        result_row(status=JobOutcome.CANCELLED, output=None, error_code="cancelled"),
    )

    assert (result.rows, result.succeeded, result.failed, result.reused, result.computed_rows) == (6, 3, 2, 1, 2)
    assert result.truncated == 1
    assert result.codes == {"text_too_long": 1, "empty_text": 1, "cancelled": 1}
    assert result.label_shares == {"GOOD": pytest.approx(2 / 3), "BAD": pytest.approx(1 / 3)}
    assert result.versions == {"m@abc": 3}


def test_verdicts_of_guards_are_counted_also_for_blocked_rows() -> None:
    model = {"model": "g", "revision": "1"}
    result = gauged(
        result_row(guards=[verdict("injection", **model), verdict("pii", "redact", "output")]),
        result_row(guards=[verdict("injection", "flag", **model), verdict("pii", on="output")]),
        result_row(**FAILED_FIELDS, guards=[verdict("injection", "fail", **model)]),
        result_row(),
    )

    assert result.guards == {
        "injection": {"passed": 1, "flagged": 1, "redacted": 0, "blocked": 1},
        "pii": {"passed": 1, "flagged": 0, "redacted": 1, "blocked": 0},
    }
    assert result.guard_versions == {"injection": {"g@1": 3}}
    assert QualityStats.from_dict(json.loads(json.dumps(result.as_dict()))) == result


def test_statistics_from_before_there_were_guards_can_be_read() -> None:
    stored = gauged(labelled("GOOD")).as_dict()
    del stored["guards"], stored["guard_versions"]

    assert QualityStats.from_dict(stored) == gauged(labelled("GOOD"))


def test_of_nothing() -> None:
    empty = gauged()

    assert (empty.rows, empty.computed_rows, empty.label_shares, empty.scores, empty.lengths) == (0, 0, {}, None, None)
    assert QualityStats.from_dict(empty.as_dict()) == empty


def test_entities_are_counted_each_and_rows_once() -> None:
    two = [{"entity_group": "PER", "score": 1.0}, {"entity_group": "PER", "score": 0.5}]
    result = gauged(
        result_row(output=two), result_row(output=[{"entity_group": "LOC", "score": 0.25}]), result_row(output=[])
    )

    assert (dict(result.labels), result.labelled, result.empty) == ({"PER": 2, "LOC": 1}, 2, 1)
    assert result.scores
    assert result.scores.mean == 0.5


def test_models_that_answered() -> None:
    result = gauged(labelled("a"), labelled("a", revision="def"), labelled("a", revision="def"))

    assert result.versions == {"m@def": 2, "m@abc": 1}


def test_rare_labels_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MAX_LABELS", 2)
    monkeypatch.setattr(stats, "MAX_DISTINCT_LABELS", 4)

    result = gauged(*map(labelled, "aaabbcdefg"), labelled("a"))

    assert (result.labels, result.other_labels, result.labelled) == ({"a": 4, "b": 2}, 5, 11)
    assert sum(result.label_shares.values()) == pytest.approx(6 / 11)


def test_the_most_frequent_stand_first_though_a_database_orders_them_anew() -> None:
    row = gauged(*map(labelled, "abbccc")).as_dict()

    again = QualityStats.from_dict({**row, "labels": dict(sorted(row["labels"].items()))})

    assert list(again.label_shares) == ["c", "b", "a"]


def test_lengths_by_nearest_rank() -> None:
    result = gauged(*(written("x" * length) for length in range(1, 101)), written(" "))

    assert result.lengths
    assert (result.lengths.p50, result.lengths.p95, result.lengths.max) == (50, 95, 100)
    assert (result.lengths.count, result.empty) == (101, 1)


@given(st.lists(st.integers(min_value=0, max_value=60), min_size=1))
def test_spreads_are_those_of_a_statistician(lengths: list[int]) -> None:
    result = gauged(*(written("x" * length) for length in lengths)).lengths

    assert result
    assert result.mean == pytest.approx(statistics.mean(lengths))
    assert result.deviation == pytest.approx(statistics.stdev(lengths) if len(lengths) > 1 else 0)
    assert (result.min, result.max, result.p50) == (min(lengths), max(lengths), statistics.median_low(lengths))


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_json_and_back(labels: list[str]) -> None:
    result = gauged(*map(labelled, labels), written("abc"), result_row(**FAILED_FIELDS))

    assert QualityStats.from_dict({**json.loads(json.dumps(result.as_dict())), "added_later": 1}) == result
