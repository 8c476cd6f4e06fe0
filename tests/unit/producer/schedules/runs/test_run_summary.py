"""A run's summary."""

import json

from producer.schedules.quality.stats import StatsAccumulator
from producer.schedules.runs.run_summary import build_summary, redact_summary, without_mean_vector
from tests.factories.result_rows import FAILED_FIELDS, result_row, vector_row


def test_the_numbers_of_a_run() -> None:
    gauge = StatsAccumulator()
    for item in (
        result_row(),
        result_row(truncated=True),
        result_row(reused_from="batch_0"),
        result_row(**FAILED_FIELDS),
    ):
        gauge.add(item)

    result = build_summary(gauge.summarize(), 60.0, 1.5)

    assert json.loads(json.dumps(result)) == result
    assert {name: result[name] for name in result if name != "quality"} == {
        "total": 4,
        "reused": 1,
        "computed": 2,
        "succeeded": 3,
        "failed": 1,
        "truncated": 1,
        "guards": {},
        "seconds": 60.0,
        "rows_per_second": 1.3,
        "drift": None,
        "changed": None,
    }


def test_a_run_without_rows() -> None:
    assert build_summary(StatsAccumulator().summarize(), 1.0, 0.0)["rows_per_second"] is None


def test_it_is_held_against_the_nights_before_of_which_some_were_empty() -> None:
    def stats(label: str, revision: str) -> StatsAccumulator:
        gauge = StatsAccumulator()
        for _ in range(30):
            gauge.add(result_row(output={"label": label, "score": 0.5}, revision=revision))
        return gauge

    empty = build_summary(StatsAccumulator().summarize(), 1.0, 1.0)
    old = build_summary(stats("a", "old").summarize(), 1.0, 1.0)

    result = build_summary(stats("b", "new").summarize(), 1.0, 1.0, [empty, {"quality": None}, old])

    assert result["drift"]["worst"] == 1.0
    assert result["drift"]["sentence"].startswith("a 100 % → 0.0 %")
    assert result["changed"] == "the model changed: m@old → m@new"


def test_labels_that_are_peoples_own_are_shown_as_hashes_and_drift_all_the_same() -> None:
    def stats(label: str) -> StatsAccumulator:
        gauge = StatsAccumulator()
        for _ in range(30):
            gauge.add(result_row(output={"labels": [label, "canary rest"], "scores": [0.9, 0.1], "sequence": "canary"}))
        return gauge

    old = build_summary(stats("canary a").summarize(), 1.0, 1.0, has_user_labels=True)
    result = build_summary(stats("canary b").summarize(), 1.0, 1.0, [old], has_user_labels=True)

    assert result["drift"]["worst"] == 1.0
    assert "sha256:" in result["drift"]["sentence"]
    assert "canary" not in json.dumps([redact_summary(result), result["drift"]])
    assert list(result["quality"]["labels"]) == ["canary b"]  # to be held against, and for the report
    assert redact_summary(None) is None
    assert redact_summary({"quality": None, "own_labels": True}) == {"quality": None, "own_labels": True}


def test_no_output_shows_the_mean_vector() -> None:
    gauge = StatsAccumulator()
    for position in range(30):
        gauge.add(vector_row(position, [0.625, 0.5]))
    result = build_summary(gauge.summarize(), 60.0, 1.5)

    shown = redact_summary(result)

    assert result["quality"]["vectors"]["mean"] == (0.625, 0.5)
    assert shown is not None
    assert shown["quality"]["vectors"]["norms"]["count"] == 30
    assert "0.625" not in json.dumps(shown)
    assert without_mean_vector(None) is None
