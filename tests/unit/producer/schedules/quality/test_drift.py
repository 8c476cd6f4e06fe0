"""Drift between harness: what moved is told, what chance does is not."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from producer.schedules.quality import stats
from producer.schedules.quality.drift import MAX_BASELINE_RUNS, Drift, describe_model_change, measure_drift
from producer.schedules.quality.stats import QualityStats, StatsAccumulator
from tests.factories.guard_rows import verdict
from tests.factories.result_rows import FAILED_FIELDS, result_row


def quality_stats(labels: Mapping[str, int], score: float = 0.9, failed: int = 0, **fields: Any) -> QualityStats:
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
    [shift] = [shift for shift in found.shifts if shift.metric == what]
    return shift.distance


def test_a_jump_of_labels_and_score_is_told() -> None:
    previous = [quality_stats({"POSITIVE": 620, "NEGATIVE": 380}, 0.93)] * 3

    result = measure_drift(quality_stats({"POSITIVE": 410, "NEGATIVE": 590}, 0.81), previous)

    assert by(result, "labels") == result.max_shift == pytest.approx(0.21)
    assert by(result, "score") == pytest.approx(0.12)
    assert result.description == "POSITIVE 62 % → 41 %, mean score 0.93 → 0.81"
    assert result.baseline_count == 3


def test_nothing_to_compare_with() -> None:
    result = measure_drift(quality_stats({"a": 100}), [])

    assert (result.max_shift, result.description, result.shifts) == (0.0, "", ())


def test_the_same_again_is_no_drift() -> None:
    same = quality_stats({"a": 70, "b": 30}, failed=7)

    assert measure_drift(same, [same, same]).max_shift == 0.0


def test_only_the_last_week_is_looked_at() -> None:
    old, new = quality_stats({"a": 1000}), quality_stats({"b": 1000})

    assert measure_drift(new, [new] * MAX_BASELINE_RUNS + [old] * 100).max_shift == 0.0
    assert by(measure_drift(new, [old] * MAX_BASELINE_RUNS + [new] * 100), "labels") == 1.0


def test_each_run_before_weighs_the_same() -> None:
    result = measure_drift(
        quality_stats({"a": 500, "b": 500}), [quality_stats({"a": 9000}), quality_stats({"b": 1000})]
    )

    assert by(result, "labels") == pytest.approx(0.0)


def test_distance_of_distributions() -> None:
    result = measure_drift(
        quality_stats({"a": 500, "b": 200, "c": 300}), [quality_stats({"a": 300, "b": 600, "d": 100})]
    )

    assert by(result, "labels") == pytest.approx((0.2 + 0.4 + 0.3 + 0.1) / 2)
    assert result.description == "b 60 % → 20 %, c 0.0 % → 30 %"


def test_labels_that_one_run_has_no_room_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    previous = quality_stats({"a": 500, "b": 300, "c": 199, "d": 1})
    monkeypatch.setattr(stats, "MAX_LABELS", 2)
    now = quality_stats({"a": 500, "c": 300, "b": 200})

    assert (now.labels, now.other_labels) == ({"a": 500, "c": 300}, 200)
    assert by(measure_drift(now, [previous]), "labels") == pytest.approx(abs(0.3 - 0.199))
    assert by(measure_drift(now, [now]), "labels") == 0.0


def test_shares_of_failed_empty_and_truncated() -> None:
    previous = [quality_stats({"a": 1000})]

    failed = measure_drift(quality_stats({"a": 600}, failed=400), previous)
    truncated = measure_drift(quality_stats({"a": 1000}, truncated=True), previous)

    assert (by(failed, "failed"), failed.description) == (pytest.approx(0.4), "failed 0.0 % → 40 %")
    assert (by(truncated, "truncated"), by(truncated, "failed")) == (1.0, 0.0)
    gauge = StatsAccumulator()
    for _ in range(100):
        gauge.add(result_row(output=[{"summary_text": ""}]))
    assert by(measure_drift(gauge.summarize(), [writing(50)]), "empty") == 1.0


def test_lengths() -> None:
    result = measure_drift(writing(49, rows=99), [writing(99, rows=99)])

    assert result.max_shift == by(result, "length") == pytest.approx(0.5)
    assert result.description == "mean length 100 → 50 characters"
    assert by(measure_drift(writing(99, rows=99), [writing(49, rows=99)]), "length") == pytest.approx(0.5), (
        "the same in both directions"
    )


def test_scores_that_are_no_probabilities_are_left_out() -> None:
    result = measure_drift(quality_stats({"a": 100}, 7.5), [quality_stats({"a": 100}, 0.5)])

    assert [shift.metric for shift in result.shifts] == ["labels", "failed", "empty", "truncated"]


def test_a_run_without_any_answer() -> None:
    result = measure_drift(quality_stats({}, failed=100), [quality_stats({"a": 1000})] * 2)

    assert result.max_shift == by(result, "failed") == 1.0


def test_few_rows_alarm_nobody() -> None:
    previous = [quality_stats({"a": 1000})] * MAX_BASELINE_RUNS

    assert measure_drift(quality_stats({"b": 19}), previous).max_shift == 0.0
    assert measure_drift(quality_stats({}, failed=19), previous).max_shift == 0.0
    assert measure_drift(quality_stats({"b": 20}), previous).max_shift == 1.0


def test_a_hair_s_breadth_does_not_count_however_many_rows_there_are() -> None:
    result = measure_drift(quality_stats({"a": 50}, 0.9), [quality_stats({"a": 50}, 0.895)])

    assert by(result, "score") == pytest.approx(0.005)
    assert (result.max_shift, result.description) == (0.0, "")


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
    rng = random.Random(f"{rows} {weights}")  # the same harness at each run of the test
    harness = [sample(rng, weights, rows) for _ in range(400)]

    result = [measure_drift(now, harness[place - 7 : place]) for place, now in enumerate(harness[7:], start=7)]

    assert sum(item.max_shift > 0 for item in result) <= 3
    assert sum(item.max_shift > 0.2 for item in result) <= 2
    if rows == 20:
        assert sum(shift.distance > 0.2 for item in result for shift in item.shifts) > 10, (
            "there is something to hold back"
        )


def test_a_real_jump_of_a_hundred_rows_is_no_chance() -> None:
    rng = random.Random(7)
    previous = [sample(rng, (6, 4), 100) for _ in range(7)]

    assert measure_drift(sample(rng, (2, 8), 100), previous).max_shift > 0.25


def test_as_json() -> None:
    result = measure_drift(quality_stats({"a": 100}), [quality_stats({"b": 100})])

    text = json.loads(json.dumps(result.as_dict()))

    assert (text["worst"], text["runs"]) == (1.0, 1)
    assert text["moves"][0]["words"] == "a 0.0 % → 100 %"


def test_a_label_of_any_length_stays_on_its_line() -> None:
    [shift, *_] = measure_drift(quality_stats({"two\nlines " + "x" * 90: 100}), [quality_stats({"b": 100})]).shifts

    assert "\n" not in shift.description
    assert len(shift.description) < 100


def guarded(caught: int, passed: int, revision: str = "a" * 40, guard: str = "injection") -> QualityStats:
    """A run with rows that a guard flagged and passed."""
    gauge = StatsAccumulator()
    for action, count in (("flag", caught), ("pass", passed)):
        for _ in range(count):
            gauge.add(result_row(guards=[verdict(guard, action, model="g", revision=revision)]))
    return gauge.summarize()


def test_a_guard_that_catches_more_has_drifted() -> None:
    result = measure_drift(guarded(90, 910), [guarded(10, 990), guarded(30, 970)])

    assert by(result, "guard injection") == result.max_shift == pytest.approx(0.07)
    assert result.description == "guard injection 2.0 % → 9.0 %"
    assert measure_drift(guarded(21, 979), [guarded(20, 980)]).max_shift == 0.0


def test_a_new_guard_has_nothing_to_be_compared_with() -> None:
    result = measure_drift(guarded(90, 910), [guarded(10, 990, guard="other"), quality_stats({"a": 100})])

    assert [shift for shift in result.shifts if shift.metric.startswith("guard")] == []


def test_another_model_of_a_guard_is_said() -> None:
    old, new = guarded(1, 1, "a" * 40), guarded(1, 1, "b" * 40)
    said = f"the model of guard injection changed: g@{'a' * 12} → g@{'b' * 12}"

    assert describe_model_change(new, [old]) == said
    assert describe_model_change(old, [old]) is None
    assert describe_model_change(new, [quality_stats({"a": 1}), old]) == said
    assert describe_model_change(new, [guarded(1, 1, guard="other")]) is None
    both = describe_model_change(replace(new, versions={"m@2": 1}), [replace(old, versions={"m@1": 1})])
    assert both == f"the model changed: m@1 → m@2; {said}"


def test_another_model_is_said_and_the_same_is_not() -> None:
    old, new = quality_stats({"a": 2}, revision="a" * 40), quality_stats({"a": 2}, revision="b" * 40)

    assert describe_model_change(new, [old]) == f"the model changed: m@{'a' * 12} → m@{'b' * 12}"
    assert describe_model_change(old, [old]) is None
    assert describe_model_change(new, [quality_stats({})]) is None
    gauge = StatsAccumulator()
    for revision in ("b" * 40, "a" * 40):
        gauge.add(result_row(revision=revision))
    assert (
        describe_model_change(gauge.summarize(), [old])
        == f"the model changed: m@{'a' * 12} → m@{'a' * 12} and m@{'b' * 12}"
    )
