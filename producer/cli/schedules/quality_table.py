"""The quality table, which compares a run's results with those of earlier runs."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import fmean

from models.privacy import terminal
from producer.cli.schedules import run_tables
from producer.schedules.quality.drift import guard_metric
from producer.schedules.quality.guard_verdicts import CAUGHT
from producer.schedules.quality.stats import QualityStats
from producer.schedules.quality.vector_drift import comparable_vectors, mean_vector_cosine

MAX_LABELS = 8
LABEL_WIDTH = 32
BAR_WIDTH = 20
BAR_EIGHTHS = " ▏▎▍▌▋▊▉█"

TableRow = tuple[str, str, str, str, str]


def format_quality(current: QualityStats, previous: Sequence[QualityStats], drifted_metrics: Collection[str]) -> str:
    """Return a line for each number, yellow if `drifted_metrics` has its name from `drift`."""
    rows = [
        *_label_rows(current, previous, "labels" in drifted_metrics),
        *_metric_rows(current, previous, drifted_metrics),
        *_direction_rows(current, previous, "direction" in drifted_metrics),
        *_guard_rows(current, previous, drifted_metrics),
    ]
    count = "1 RUN" if len(previous) == 1 else f"{len(previous)} RUNS"
    header = ("", "THIS RUN", "", f"{count} BEFORE" if previous else "", "")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rows = [(row[0], row[1].rjust(widths[1]), row[2], row[3].rjust(widths[3]), row[4]) for row in rows]
    return run_tables.colour_lines(terminal.format_table(header, rows), ["yellow" if row[-1] else None for row in rows])


def _label_rows(current: QualityStats, previous: Sequence[QualityStats], is_drifted: bool) -> list[TableRow]:
    baseline = [quality.label_shares for quality in previous if quality.labelled]
    means = {label: fmean(run.get(label, 0.0) for run in baseline) for label in set().union(*baseline)}
    shares = current.label_shares
    ranked = sorted({*shares, *means}, key=lambda label: (-max(shares.get(label, 0.0), means.get(label, 0.0)), label))
    return [
        (
            terminal.shorten(label, LABEL_WIDTH),
            _format_percent(shares.get(label, 0.0)),
            _bar(shares.get(label, 0.0)),
            _format_percent(means.get(label, 0.0)) if baseline else "",
            "moved" if is_drifted else "",
        )
        for label in ranked[:MAX_LABELS]
    ]


def _metric_rows(
    current: QualityStats, previous: Sequence[QualityStats], drifted_metrics: Collection[str]
) -> list[TableRow]:
    lines: tuple[tuple[str, str, Callable[[QualityStats], float | None], Callable[[float], str]], ...] = (
        ("score", "mean score", lambda run: run.scores.mean if run.scores else None, lambda mean: f"{mean:.2f}"),
        ("length", "mean length", lambda run: run.lengths.mean if run.lengths else None, lambda mean: f"{mean:,.0f}"),
        ("norm", "mean norm", lambda run: run.vectors.norms.mean if run.vectors else None, lambda mean: f"{mean:.3g}"),
        ("zero vectors", "zero vectors", lambda run: _vector_share(run, "zero"), _format_percent),
        ("equal vectors", "equal vectors", lambda run: _vector_share(run, "equal"), _format_percent),
        ("failed", "failed", lambda run: run.rows and run.failed / run.rows, _format_percent),
        ("empty", "empty", lambda run: run.succeeded and run.empty / run.succeeded, _format_percent),
        ("truncated", "truncated", lambda run: run.succeeded and run.truncated / run.succeeded, _format_percent),
    )
    rows = []
    for name, title, measure, spell in lines:
        value = measure(current)
        baseline = [number for run in previous if (number := measure(run)) is not None]
        if value is not None:
            mean = spell(fmean(baseline)) if baseline else ""
            rows.append((title, spell(value), "", mean, "moved" if name in drifted_metrics else ""))
    return rows


def _direction_rows(current: QualityStats, previous: Sequence[QualityStats], is_drifted: bool) -> list[TableRow]:
    """Return a row with the cosine of this run's mean vector with those before, if they are of the same models."""
    if current.vectors is None:
        return []
    cosine = mean_vector_cosine(current.vectors, comparable_vectors(current, previous))
    return [] if cosine is None else [("mean vector's cosine", f"{cosine:.2f}", "", "", "moved" if is_drifted else "")]


def _vector_share(run: QualityStats, kind: str) -> float | None:
    return None if run.vectors is None else getattr(run.vectors, kind) / run.vectors.norms.count


def _guard_rows(
    current: QualityStats, previous: Sequence[QualityStats], drifted_metrics: Collection[str]
) -> list[TableRow]:
    """Return a row for each outcome of each guard that caught something, in this run or before."""
    rows = []
    for guard in sorted({*current.guards, *itertools.chain.from_iterable(run.guards for run in previous)}):
        baseline = [run.guards[guard] for run in previous if guard in run.guards]
        note = "moved" if guard_metric(guard) in drifted_metrics else ""
        for outcome in CAUGHT:
            outcomes = current.guards.get(guard)
            share = None if outcomes is None else _share(outcomes, outcome)
            mean = fmean(_share(run, outcome) for run in baseline) if baseline else None
            if share or mean:
                shown = ["" if number is None else _format_percent(number) for number in (share, mean)]
                rows.append((f"{guard} {outcome}", shown[0], _bar(share or 0.0), shown[1], note))
    return rows


def _share(outcomes: Mapping[str, int], outcome: str) -> float:
    return outcomes[outcome] / sum(outcomes.values())


def _bar(share: float) -> str:
    eighths = round(share * BAR_WIDTH * 8)
    return ("█" * (eighths // 8) + BAR_EIGHTHS[eighths % 8]).rstrip()


def _format_percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.1 or not share else 1}f} %"
