"""A run beside those before it."""

from typing import Any

from producer.schedules.quality import comparison
from producer.schedules.quality.number_stats import NumberStats
from producer.schedules.quality.stats import QualityStats
from producer.schedules.runs.run_summary import build_summary

HOSTILE = "<script>alert(1)</script>"


def stats(labels: dict[str, int], score: float = 0.9, failed: int = 0, **fields: Any) -> QualityStats:
    succeeded = sum(labels.values())
    scores = NumberStats(succeeded, score, 0.01, 0.1, 1.0)
    versions = {"model@revision": succeeded}
    return QualityStats(
        succeeded + failed, succeeded, failed, 0, 0, 0, {}, labels, 0, succeeded, scores, None, versions, **fields
    )


def summary_of(current: QualityStats, *earlier: QualityStats, own_labels: bool = False) -> dict[str, Any]:
    previous = [build_summary(run, 1, 1) for run in earlier]
    return build_summary(current, 1, 1, previous, has_user_labels=own_labels)


def test_labels_and_measures_stand_beside_the_mean_of_the_runs_before() -> None:
    before = [stats({"POSITIVE": 900, "NEGATIVE": 100}), stats({"POSITIVE": 700, "NEGATIVE": 300})]
    summary = summary_of(stats({"NEGATIVE": 900, HOSTILE: 100}, score=0.5, failed=200), *before)

    lines = {line.name: line for line in comparison.compare(summary, [build_summary(run, 1, 1) for run in before])}

    assert (lines["NEGATIVE"].now, lines["NEGATIVE"].before, lines["NEGATIVE"].moved) == (0.9, 0.2, True)
    assert (lines[HOSTILE].now, lines[HOSTILE].before) == (0.1, 0.0)
    assert (lines["POSITIVE"].now, round(lines["POSITIVE"].before or 0, 3)) == (0.0, 0.8)
    assert (lines["mean score"].now, lines["mean score"].before, lines["mean score"].moved) == (0.5, 0.9, True)
    assert (round(lines["failed rows"].now or 0, 3), lines["failed rows"].moved) == (0.167, True)
    assert "mean length, characters" not in lines, "the outputs have none"


def test_without_runs_before_nothing_is_compared() -> None:
    [line, *_] = comparison.compare(summary_of(stats({"A": 50})), [])

    assert (line.name, line.now, line.before, line.moved) == ("A", 1.0, None, False)


def test_without_results_there_are_no_lines() -> None:
    assert comparison.compare(None, []) == []
    assert comparison.compare({"total": 0}, [None]) == []


def test_labels_that_are_people_s_own_texts_are_hashed() -> None:
    summary = summary_of(stats({"secret label": 50}), own_labels=True)

    names = [line.name for line in comparison.compare(summary, [])]

    assert not any("secret" in name for name in names)
    assert names[0].startswith("sha256:")


def test_guards_have_a_line_with_the_share_that_they_caught() -> None:
    outcomes = {"passed": 90, "flagged": 0, "redacted": 0, "blocked": 10}
    summary = summary_of(stats({"A": 100}, guards={"injection": outcomes}))

    assert comparison.compare(summary, [])[-1].name == "caught by guard injection"
    assert comparison.compare(summary, [])[-1].now == 0.1


def test_only_the_most_frequent_labels_are_shown() -> None:
    summary = summary_of(stats({f"label {number}": number + 1 for number in range(40)}))

    labels = [line.name for line in comparison.compare(summary, []) if line.name.startswith("label")]

    assert labels == [f"label {number}" for number in range(39, 39 - comparison.MAX_LABELS, -1)]
