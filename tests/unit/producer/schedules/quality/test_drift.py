"""Drift between nights: what moved is told, what chance does is not."""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from producer.schedules.quality import stats
from producer.schedules.quality.drift import MAX_BASELINE_RUNS, Drift, describe_model_change, measure_drift
from producer.schedules.quality.stats import QualityStats, StatsAccumulator
from tests.factories.result_rows import FAILED_FIELDS, result_row


def night(labels: Mapping[str, int], score: float = 0.9, failed: int = 0, **fields: Any) -> QualityStats:
    gauge = StatsAccumulator()
    for label, count in labels.items():
        for _ in range(count):
            gauge.add(result_row(output={"label": label, "score": score}, **fields))
    for _ in range(failed):
        gauge.add(result_row(**FAILED_FIELDS))
    return gauge.summarize()


def writing(length: int, rows: int = 100, **fields: Any) -> QualityStats:
    gauge = StatsAccumulator()
    for place in range(rows):
        gauge.add(result_row(output=[{"summary_text": "x" * (length + place % 3)}], **fields))
    return gauge.summarize()


def by(found: Drift, what: str) -> float:
    [move] = [move for move in found.shifts if move.what == what]
    return move.by


def test_a_jump_of_labels_and_score_is_told() -> None:
    before = [night({"POSITIVE": 620, "NEGATIVE": 380}, 0.93)] * 3

    found = measure_drift(night({"POSITIVE": 410, "NEGATIVE": 590}, 0.81), before)

    assert by(found, "labels") == found.max_shift == pytest.approx(0.21)
    assert by(found, "score") == pytest.approx(0.12)
    assert found.description == "POSITIVE 62 % → 41 %, mean score 0.93 → 0.81"
    assert found.baseline_count == 3


def test_nothing_to_compare_with() -> None:
    found = measure_drift(night({"a": 100}), [])

    assert (found.max_shift, found.description, found.shifts) == (0.0, "", ())


def test_the_same_again_is_no_drift() -> None:
    same = night({"a": 70, "b": 30}, failed=7)

    assert measure_drift(same, [same, same]).max_shift == 0.0


def test_only_the_last_week_is_looked_at() -> None:
    old, new = night({"a": 1000}), night({"b": 1000})

    assert measure_drift(new, [new] * MAX_BASELINE_RUNS + [old] * 100).max_shift == 0.0
    assert by(measure_drift(new, [old] * MAX_BASELINE_RUNS + [new] * 100), "labels") == 1.0


def test_each_run_before_weighs_the_same() -> None:
    found = measure_drift(night({"a": 500, "b": 500}), [night({"a": 9000}), night({"b": 1000})])

    assert by(found, "labels") == pytest.approx(0.0)


def test_distance_of_distributions() -> None:
    found = measure_drift(night({"a": 500, "b": 200, "c": 300}), [night({"a": 300, "b": 600, "d": 100})])

    assert by(found, "labels") == pytest.approx((0.2 + 0.4 + 0.3 + 0.1) / 2)
    assert found.description == "b 60 % → 20 %, c 0.0 % → 30 %"


def test_labels_that_one_night_has_no_room_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = night({"a": 500, "b": 300, "c": 199, "d": 1})
    monkeypatch.setattr(stats, "MAX_LABELS", 2)
    now = night({"a": 500, "c": 300, "b": 200})

    assert (now.labels, now.other_labels) == ({"a": 500, "c": 300}, 200)
    assert by(measure_drift(now, [before]), "labels") == pytest.approx(abs(0.3 - 0.199))
    assert by(measure_drift(now, [now]), "labels") == 0.0


def test_shares_of_failed_empty_and_truncated() -> None:
    before = [night({"a": 1000})]

    failed = measure_drift(night({"a": 600}, failed=400), before)
    truncated = measure_drift(night({"a": 1000}, truncated=True), before)

    assert (by(failed, "failed"), failed.description) == (pytest.approx(0.4), "failed 0.0 % → 40 %")
    assert (by(truncated, "truncated"), by(truncated, "failed")) == (1.0, 0.0)
    gauge = StatsAccumulator()
    for _ in range(100):
        gauge.add(result_row(output=[{"summary_text": ""}]))
    assert by(measure_drift(gauge.summarize(), [writing(50)]), "empty") == 1.0


def test_lengths() -> None:
    found = measure_drift(writing(49, rows=99), [writing(99, rows=99)])

    assert found.max_shift == by(found, "length") == pytest.approx(0.5)
    assert found.description == "mean length 100 → 50 characters"
    assert by(measure_drift(writing(99, rows=99), [writing(49, rows=99)]), "length") == pytest.approx(0.5), (
        "the same in both directions"
    )


def test_scores_that_are_no_probabilities_are_left_out() -> None:
    found = measure_drift(night({"a": 100}, 7.5), [night({"a": 100}, 0.5)])

    assert [move.what for move in found.shifts] == ["labels", "failed", "empty", "truncated"]


def test_a_night_without_any_answer() -> None:
    found = measure_drift(night({}, failed=100), [night({"a": 1000})] * 2)

    assert found.max_shift == by(found, "failed") == 1.0


def test_few_rows_alarm_nobody() -> None:
    before = [night({"a": 1000})] * MAX_BASELINE_RUNS

    assert measure_drift(night({"b": 19}), before).max_shift == 0.0
    assert measure_drift(night({}, failed=19), before).max_shift == 0.0
    assert measure_drift(night({"b": 20}), before).max_shift == 1.0


def test_a_hair_s_breadth_does_not_count_however_many_rows_there_are() -> None:
    found = measure_drift(night({"a": 50}, 0.9), [night({"a": 50}, 0.895)])

    assert by(found, "score") == pytest.approx(0.005)
    assert (found.max_shift, found.description) == (0.0, "")


def sample(rng: random.Random, weights: Sequence[float], rows: int) -> QualityStats:
    gauge = StatsAccumulator()
    for label in rng.choices(range(len(weights)), weights, k=rows):
        if label == 0 and rng.random() < 0.2:
            gauge.add(result_row(**FAILED_FIELDS))
        else:
            score = min(1.0, max(0.0, rng.gauss(0.7, 0.2)))
            gauge.add(result_row(output={"label": str(label), "score": score}, truncated=rng.random() < 0.1))
    return gauge.summarize()


@pytest.mark.parametrize("rows", [20, 40, 100])
@pytest.mark.parametrize("weights", [(1, 1), (98, 1, 1), (1,) * 10, (5, 3, 1, 1)])
def test_chance_alone_alarms_about_once_in_a_thousand_nights(weights: Sequence[float], rows: int) -> None:
    rng = random.Random(f"{rows} {weights}")  # the same nights at each run of the test
    nights = [sample(rng, weights, rows) for _ in range(400)]

    found = [measure_drift(now, nights[place - 7 : place]) for place, now in enumerate(nights[7:], start=7)]

    assert sum(one.max_shift > 0 for one in found) <= 3
    assert sum(one.max_shift > 0.2 for one in found) <= 2
    if rows == 20:
        assert sum(move.by > 0.2 for one in found for move in one.shifts) > 10, "there is something to hold back"


def test_a_real_jump_of_a_hundred_rows_is_no_chance() -> None:
    rng = random.Random(7)
    before = [sample(rng, (6, 4), 100) for _ in range(7)]

    assert measure_drift(sample(rng, (2, 8), 100), before).max_shift > 0.25


def test_as_json() -> None:
    found = measure_drift(night({"a": 100}), [night({"b": 100})])

    said = json.loads(json.dumps(found.as_dict()))

    assert (said["worst"], said["runs"]) == (1.0, 1)
    assert said["moves"][0]["words"] == "a 0.0 % → 100 %"


def test_a_label_of_any_length_stays_on_its_line() -> None:
    [move, *_] = measure_drift(night({"two\nlines " + "x" * 90: 100}), [night({"b": 100})]).shifts

    assert "\n" not in move.words
    assert len(move.words) < 100


def test_another_model_is_said_and_the_same_is_not() -> None:
    old, new = night({"a": 2}, revision="a" * 40), night({"a": 2}, revision="b" * 40)

    assert describe_model_change(new, old) == f"the model changed: m@{'a' * 12} → m@{'b' * 12}"
    assert describe_model_change(old, old) is None
    assert describe_model_change(new, night({})) is None
    gauge = StatsAccumulator()
    for revision in ("b" * 40, "a" * 40):
        gauge.add(result_row(revision=revision))
    assert (
        describe_model_change(gauge.summarize(), old)
        == f"the model changed: m@{'a' * 12} → m@{'a' * 12} and m@{'b' * 12}"
    )
