"""Charts over the runs of a schedule: rows, labels, scores and lengths. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from producer.schedules.runs import run_summary
from producer.schedules.runs.run_views import RunView

MAX_LABELS = 6
MAX_LABEL_CHARACTERS = 40
MIN_RUNS = 2  # fewer make no line

Numbers = list[float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over the scheduled times of runs."""

    id: str
    title: str
    unit: str
    times: list[datetime]
    lines: list[tuple[str, Numbers]]
    digits: int = 0


def charts_for(runs: Sequence[RunView]) -> list[Chart]:
    """Return the charts of runs, which are given with the latest first; none of what no run has."""
    ended = [run for run in reversed(runs) if run.summary]
    if len(ended) < MIN_RUNS:
        return []
    times = [run.scheduled_at for run in ended]
    summaries = [run_summary.redact_summary(run.summary) or {} for run in ended]
    qualities = [summary.get("quality") or {} for summary in summaries]
    rows = [("rows", _numbers(summaries, "total")), ("failed", _numbers(summaries, "failed"))]
    drift = [("largest shift", _percents((summary.get("drift") or {}).get("worst") for summary in summaries))]
    charts = [
        Chart("chart-rows", "Rows", "rows", times, rows),
        Chart("chart-labels", "Labels", "% of labels", times, _label_lines(qualities), 1),
        Chart("chart-score", "Mean score", "score", times, [("mean score", _means(qualities, "scores"))], 2),
        Chart("chart-length", "Mean length", "characters", times, [("mean length", _means(qualities, "lengths"))]),
        Chart("chart-drift", "Drift", "% shift", times, drift, 1),
    ]
    return [chart for chart in charts if any(value is not None for _, values in chart.lines for value in values)]


def _label_lines(qualities: Sequence[Mapping[str, Any]]) -> list[tuple[str, Numbers]]:
    """Return the share of each of the most frequent labels in each run, in percent."""
    totals: Counter[str] = Counter()
    for quality in qualities:
        totals.update(quality.get("labels") or {})
    names = [name for name, _ in totals.most_common(MAX_LABELS)]
    return [(_shorten(name), _percents(_label_share(quality, name) for quality in qualities)) for name in names]


def _label_share(quality: Mapping[str, Any], name: str) -> float | None:
    labels = quality.get("labels") or {}
    whole = sum(labels.values()) + (quality.get("other_labels") or 0)
    return labels.get(name, 0) / whole if whole else None


def _numbers(summaries: Sequence[Mapping[str, Any]], field: str) -> Numbers:
    return [summary.get(field) for summary in summaries]


def _means(qualities: Sequence[Mapping[str, Any]], field: str) -> Numbers:
    return [(quality.get(field) or {}).get("mean") for quality in qualities]


def _percents(shares: Iterable[float | None]) -> Numbers:
    return [None if share is None else round(100 * share, 2) for share in shares]


def _shorten(label: str) -> str:
    one_line = " ".join(label.split())
    return one_line if len(one_line) <= MAX_LABEL_CHARACTERS else f"{one_line[: MAX_LABEL_CHARACTERS - 1]}…"
