"""A run's summary."""

import json

from producer.schedules.quality.stats import Gauge
from producer.schedules.runs.run_summary import shown, summary
from tests.results_made import FAILED, row


def test_the_numbers_of_a_night() -> None:
    gauge = Gauge()
    for one in (row(), row(truncated=True), row(reused_from="batch_0"), row(**FAILED)):
        gauge.note(one)

    found = summary(gauge.quality(), 1.5)

    assert json.loads(json.dumps(found)) == found
    assert {name: found[name] for name in found if name != "quality"} == {
        "total": 4, "reused": 1, "computed": 3, "succeeded": 3, "failed": 1, "truncated": 1, "seconds": 1.5,
        "rows_per_second": 2.0, "drift": None, "changed": None,
    }  # fmt: skip


def test_a_night_without_rows() -> None:
    assert summary(Gauge().quality(), 0.0)["rows_per_second"] is None


def test_it_is_held_against_the_nights_before_of_which_some_were_empty() -> None:
    def night(label: str, revision: str) -> Gauge:
        gauge = Gauge()
        for _ in range(30):
            gauge.note(row(output={"label": label, "score": 0.5}, revision=revision))
        return gauge

    empty, old = summary(Gauge().quality(), 1.0), summary(night("a", "old").quality(), 1.0)

    found = summary(night("b", "new").quality(), 1.0, [empty, {"quality": None}, old])

    assert found["drift"]["worst"] == 1.0
    assert found["drift"]["sentence"].startswith("a 100 % → 0.0 %")
    assert found["changed"] == "the model changed: m@old → m@new"


def test_labels_that_are_peoples_own_are_shown_as_hashes_and_drift_all_the_same() -> None:
    def night(label: str) -> Gauge:
        gauge = Gauge()
        for _ in range(30):
            gauge.note(row(output={"labels": [label, "canary rest"], "scores": [0.9, 0.1], "sequence": "canary"}))
        return gauge

    old = summary(night("canary a").quality(), 1.0, own_labels=True)
    found = summary(night("canary b").quality(), 1.0, [old], own_labels=True)

    assert found["drift"]["worst"] == 1.0
    assert "sha256:" in found["drift"]["sentence"]
    assert "canary" not in json.dumps([shown(found), found["drift"]])
    assert list(found["quality"]["labels"]) == ["canary b"]  # to be held against, and for the report
    assert shown(None) is None
    assert shown({"quality": None, "own_labels": True}) == {"quality": None, "own_labels": True}
