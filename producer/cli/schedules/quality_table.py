"""Gauges: what the results of a run are like, beside those of the runs before it."""

from collections.abc import Callable, Collection, Sequence
from statistics import fmean

from models.privacy import terminal
from producer.cli.schedules import run_tables
from producer.schedules.quality.stats import Quality

MOST_LABELS = 8
LABEL_WIDTH = 32
BAR_WIDTH = 20
PARTS = " ▏▎▍▌▋▊▉█"

Line = tuple[str, str, str, str, str]


def table(now: Quality, before: Sequence[Quality], moved: Collection[str]) -> str:
    """A line for each number, yellow where it has `moved` further than chance would have it (as `drift` names it)."""
    rows = [*_labels(now, before, "labels" in moved), *_rest(now, before, moved)]
    many = "1 RUN" if len(before) == 1 else f"{len(before)} RUNS"
    header = ("", "THIS RUN", "", f"{many} BEFORE" if before else "", "")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rows = [(row[0], row[1].rjust(widths[1]), row[2], row[3].rjust(widths[3]), row[4]) for row in rows]
    return run_tables.coloured(terminal.table(header, rows), ["yellow" if row[-1] else None for row in rows])


def _labels(now: Quality, before: Sequence[Quality], moved: bool) -> list[Line]:
    earlier = [quality.shares for quality in before if quality.labelled]
    means = {label: fmean(one.get(label, 0.0) for one in earlier) for label in set().union(*earlier)}
    shares = now.shares
    ranked = sorted({*shares, *means}, key=lambda label: (-max(shares.get(label, 0.0), means.get(label, 0.0)), label))
    return [
        (
            terminal.shortened(label, LABEL_WIDTH), _percent(shares.get(label, 0.0)), _bar(shares.get(label, 0.0)),
            _percent(means.get(label, 0.0)) if earlier else "", "moved" if moved else "",
        )
        for label in ranked[:MOST_LABELS]
    ]  # fmt: skip


def _rest(now: Quality, before: Sequence[Quality], moved: Collection[str]) -> list[Line]:
    lines: tuple[tuple[str, str, Callable[[Quality], float | None], Callable[[float], str]], ...] = (
        ("score", "mean score", lambda one: one.scores.mean if one.scores else None, lambda mean: f"{mean:.2f}"),
        ("length", "mean length", lambda one: one.lengths.mean if one.lengths else None, lambda mean: f"{mean:,.0f}"),
        ("failed", "failed", lambda one: one.rows and one.failed / one.rows, _percent),
        ("empty", "empty", lambda one: one.succeeded and one.empty / one.succeeded, _percent),
        ("truncated", "truncated", lambda one: one.succeeded and one.truncated / one.succeeded, _percent),
    )
    rows = []
    for name, title, measured, spelled in lines:
        value, earlier = measured(now), [found for one in before if (found := measured(one)) is not None]
        if value is not None:
            mean = spelled(fmean(earlier)) if earlier else ""
            rows.append((title, spelled(value), "", mean, "moved" if name in moved else ""))
    return rows


def _bar(share: float) -> str:
    eighths = round(share * BAR_WIDTH * 8)
    return ("█" * (eighths // 8) + PARTS[eighths % 8]).rstrip()


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.1 or not share else 1}f} %"
