"""A run beside those before it: each label and measure with its value now and its mean before. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from models.pipelines import redaction
from producer.schedules.quality.drift import guard_metric
from producer.schedules.quality.guard_verdicts import caught_and_read
from producer.schedules.quality.stats import QualityStats

MAX_LABELS = 12


@dataclass(frozen=True, slots=True)
class Line:
    """One measure of a run.

    kind: `share`, from 0 to 1, or `number`
    before: the mean of the earlier runs; None without any
    moved: whether it moved more than chance explains
    """

    name: str
    kind: str
    now: float | None
    before: float | None
    moved: bool
    digits: int = 0


Measure = Callable[[QualityStats], float | None]

# The metric of `drift`, what people call it, its kind and digits, and how it is read.
MEASURES: tuple[tuple[str, str, str, int, Measure], ...] = (
    ("score", "mean score", "number", 2, lambda run: run.scores.mean if run.scores else None),
    ("length", "mean length, characters", "number", 0, lambda run: run.lengths.mean if run.lengths else None),
    ("norm", "mean norm of vectors", "number", 3, lambda run: run.vectors.norms.mean if run.vectors else None),
    ("failed", "failed rows", "share", 0, lambda run: run.failed / run.rows if run.rows else None),
    ("empty", "empty outputs", "share", 0, lambda run: run.empty / run.succeeded if run.succeeded else None),
    ("truncated", "truncated rows", "share", 0, lambda run: run.truncated / run.succeeded if run.succeeded else None),
)


def compare(summary: Mapping[str, Any] | None, earlier: Sequence[Mapping[str, Any] | None]) -> list[Line]:
    """Return the lines of a run; none if it has no results.

    summary: of the run
    earlier: summaries of earlier completed runs
    """
    if not summary or not summary.get("quality"):
        return []
    current = QualityStats.from_dict(summary["quality"])
    previous = [QualityStats.from_dict(other["quality"]) for other in earlier if other and other.get("quality")]
    moved = {move["what"] for move in (summary.get("drift") or {}).get("moves", ()) if move["counts"]}
    is_private = bool(summary.get("own_labels"))
    return [
        *_label_lines(current, previous, has_moved="labels" in moved, is_private=is_private),
        *(
            Line(name, kind, value, _mean(read, previous), metric in moved, digits)
            for metric, name, kind, digits, read in MEASURES
            if (value := read(current)) is not None
        ),
        *_guard_lines(current, previous, moved),
    ]


def _label_lines(
    current: QualityStats, previous: Sequence[QualityStats], *, has_moved: bool, is_private: bool
) -> list[Line]:
    shares, baseline = current.label_shares, [run.label_shares for run in previous if run.labelled]
    means = {label: fmean(run.get(label, 0.0) for run in baseline) for label in set().union(*baseline)}
    ranked = sorted({*shares, *means}, key=lambda label: (-max(shares.get(label, 0.0), means.get(label, 0.0)), label))
    return [
        Line(
            redaction.redact_value(label) if is_private else label,
            "share",
            shares.get(label, 0.0),
            means.get(label, 0.0) if baseline else None,
            has_moved,
        )
        for label in ranked[:MAX_LABELS]
    ]


def _guard_lines(current: QualityStats, previous: Sequence[QualityStats], moved: set[str]) -> list[Line]:
    return [
        Line(
            f"caught by guard {guard}",
            "share",
            _caught_share(current, guard),
            _mean(lambda run, guard=guard: _caught_share(run, guard), previous),  # type: ignore[misc]
            guard_metric(guard) in moved,
        )
        for guard in sorted(current.guards)
    ]


def _caught_share(run: QualityStats, guard: str) -> float | None:
    if guard not in run.guards:
        return None
    caught, rows = caught_and_read(run.guards[guard])
    return caught / rows if rows else None


def _mean(read: Measure, runs: Sequence[QualityStats]) -> float | None:
    values = [value for run in runs if (value := read(run)) is not None]
    return fmean(values) if values else None
