"""Drift detection: the distance of a run's results from earlier runs, beyond the noise of their sample sizes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.pipelines import redaction
from producer.schedules.quality.guard_verdicts import caught_and_read
from producer.schedules.quality.metric_shift import (
    MetricShift,
    chance_distance,
    effective_sample_size,
    format_percent,
    mean_and_chance_distance,
    metric_shift,
    share_shift,
)
from producer.schedules.quality.stats import QualityStats
from producer.schedules.quality.vector_drift import vector_shifts

MAX_BASELINE_RUNS = 7  # a week of daily runs, so each weekday counts once
MAX_SHIFTS_SHOWN = 3
MAX_LABEL_LENGTH = 40

MODEL_CHANGED_PREFIX = "the model changed: "


@dataclass(frozen=True, slots=True)
class Drift:
    """The shifts against the mean of `baseline_count` earlier runs; empty without earlier runs."""

    baseline_count: int
    shifts: tuple[MetricShift, ...]

    @property
    def max_shift(self) -> float:
        """The largest significant shift, from 0 to 1."""
        return max((shift.distance for shift in self.shifts if shift.is_significant), default=0.0)

    @property
    def description(self) -> str:
        """The three largest significant shifts as text; empty if there are none."""
        significant = sorted(
            (shift for shift in self.shifts if shift.is_significant), key=lambda shift: -shift.distance
        )
        return ", ".join(shift.description for shift in significant[:MAX_SHIFTS_SHOWN])

    def as_dict(self) -> dict[str, Any]:
        """Return the drift as it is stored in JSON."""
        moves = [
            {"what": shift.metric, "by": shift.distance, "counts": shift.is_significant, "words": shift.description}
            for shift in self.shifts
        ]
        return {"worst": self.max_shift, "sentence": self.description, "runs": self.baseline_count, "moves": moves}


def measure_drift(current: QualityStats, baseline: Sequence[QualityStats], *, redact_labels: bool = False) -> Drift:
    """Compare a run with up to 7 earlier runs.

    current: statistics of the run
    baseline: statistics of earlier runs, newest first; each run has the same weight
    redact_labels: show labels as hashes in sentences, because they are people's own texts

    Labels shift by the total variation distance of their shares (Levin and Peres, Markov Chains and Mixing Times, 4.1).
    It is half the sum of the absolute differences. The shares of failed, empty and truncated rows, those that each
    guard caught, and the mean score shift by their difference. The mean length shifts by its difference over the
    greater one. Vectors shift as `vector_shifts` says.

    Samples of the same source differ by chance. A shift counts only if it exceeds the mean chance distance of such
    samples by three standard deviations and is at least 0.01. The current run must have 20 rows of the kind.

    A distance between distributions has a mean of about half the sum of sqrt(2 p (1 - p) / (pi n)) over the labels.
    Each term is the mean absolute deviation of a label's share. The distance is the greatest difference over all sets
    of labels, so it varies no more than the share of the most variable set. This is the concentration of a maximum
    (Boucheron, Lugosi and Massart, Concentration Inequalities, chapter 5). n is the combined size of the current sample
    and the mean's, 1 / (1/n1 + 1/n2). Entities of one text are not independent samples, so their rows are counted.
    """
    runs = baseline[:MAX_BASELINE_RUNS]
    shifts = (
        _label_shift(current, runs, redaction.redact_value if redact_labels else _shorten_label),
        share_shift("failed", current, runs, lambda run: (run.failed, run.succeeded + run.failed)),
        share_shift("empty", current, runs, lambda run: (run.empty, run.succeeded)),
        share_shift("truncated", current, runs, lambda run: (run.truncated, run.succeeded)),
        _score_shift(current, runs),
        _length_shift(current, runs),
        *vector_shifts(current, runs),
        *(_guard_shift(guard, current, runs) for guard in current.guards),
    )
    return Drift(len(runs), tuple(shift for shift in shifts if shift is not None))


def describe_model_change(current: QualityStats, baseline: Sequence[QualityStats]) -> str | None:
    """Return a sentence about changed models, also of guards; None if nothing changed or there are no versions.

    baseline: statistics of earlier runs, newest first; the first that has a version counts
    """
    parts = []
    earlier = next((run.versions for run in baseline if run.versions), {})
    if _is_other_model(current.versions, earlier):
        parts.append(f"{MODEL_CHANGED_PREFIX}{_format_change(earlier, current.versions)}")
    for guard, versions in current.guard_versions.items():
        earlier = next((run.guard_versions[guard] for run in baseline if guard in run.guard_versions), {})
        if _is_other_model(versions, earlier):
            parts.append(f"the model of guard {guard} changed: {_format_change(earlier, versions)}")
    return "; ".join(parts) or None


def guard_metric(guard: str) -> str:
    """Return the name of the metric for the share of rows that a guard caught."""
    return f"guard {guard}"


def _label_shift(
    current: QualityStats, baseline: Sequence[QualityStats], format_label: Callable[[str], str]
) -> MetricShift | None:
    runs = [run for run in baseline if run.labelled]
    if not current.labelled or not runs:
        return None
    shares, *earlier = _comparable_shares([current, *runs])
    mean = {label: sum(run[label] for run in earlier) / len(earlier) for label in shares}
    difference = {label: shares[label] - mean[label] for label in shares}
    size = effective_sample_size(current.labelled, [run.labelled for run in runs])
    weight = size / current.labelled  # weight of the baseline mean in the pooled shares
    pooled = [shares[label] * (1 - weight) + mean[label] * weight for label in shares]
    distance = sum(map(abs, difference.values())) / 2
    ranked = sorted((label for label in difference if label is not None), key=lambda label: -abs(difference[label]))
    description = ", ".join(
        f"{format_label(label)} {format_percent(mean[label])} → {format_percent(shares[label])}"
        for label in ranked[: 1 if len(difference) <= 2 else 2]
    )
    chance = chance_distance(pooled, size)
    return metric_shift("labels", distance, chance, current.labelled, description or "labels changed")


def _comparable_shares(stats: Sequence[QualityStats]) -> list[dict[str | None, float]]:
    """Return shares over the same labels for all runs; the key None has the rest.

    A label is compared if every run either names it or has no other labels.
    """
    labels = {label for run in stats for label in run.labels}
    comparable = sorted(label for label in labels if all(label in run.labels or not run.other_labels for run in stats))
    shares: list[dict[str | None, float]] = []
    for run in stats:
        run_shares = run.label_shares
        shares.append({label: run_shares.get(label, 0.0) for label in comparable})
        shares[-1][None] = max(0.0, 1.0 - sum(shares[-1].values()))
    if all(share[None] < 1e-9 for share in shares):
        for share in shares:
            del share[None]
    return shares


def _guard_shift(guard: str, current: QualityStats, baseline: Sequence[QualityStats]) -> MetricShift | None:
    runs = [run for run in baseline if guard in run.guards]
    return share_shift(guard_metric(guard), current, runs, lambda run: caught_and_read(run.guards[guard]))


def _score_shift(current: QualityStats, baseline: Sequence[QualityStats]) -> MetricShift | None:
    runs = [run.scores for run in baseline if run.scores]
    if (
        current.scores is None
        or not runs
        or any(scores.min < 0 or scores.max > 1 for scores in (current.scores, *runs))
    ):
        return None  # without probabilities, a distance has no scale
    mean, chance = mean_and_chance_distance(current.scores, runs)
    distance = abs(current.scores.mean - mean)
    description = f"mean score {mean:.2f} → {current.scores.mean:.2f}"
    return metric_shift("score", distance, chance, current.scores.count, description)


def _length_shift(current: QualityStats, baseline: Sequence[QualityStats]) -> MetricShift | None:
    runs = [run.lengths for run in baseline if run.lengths]
    if current.lengths is None or not runs:
        return None
    mean, chance = mean_and_chance_distance(current.lengths, runs)
    greater = max(mean, current.lengths.mean) or 1.0
    distance = abs(current.lengths.mean - mean) / greater
    description = f"mean length {mean:.0f} → {current.lengths.mean:.0f} characters"
    return metric_shift("length", distance, chance / greater, current.lengths.count, description)


def _is_other_model(current: Mapping[str, int], earlier: Mapping[str, int]) -> bool:
    return bool(current and earlier and current.keys() != earlier.keys())


def _format_change(earlier: Mapping[str, int], current: Mapping[str, int]) -> str:
    return f"{_format_versions(earlier)} → {_format_versions(current)}"


def _format_versions(versions: Mapping[str, int]) -> str:
    return " and ".join(sorted(map(_shorten_version, versions)))


def _shorten_version(version: str) -> str:
    model, _, revision = version.rpartition("@")
    kind, colon, digest = revision.rpartition(":")  # a folder's revision is prefixed with the hash's name
    return f"{model}@{kind}{colon}{digest[:12]}"


def _shorten_label(label: str) -> str:
    one_line = " ".join(label.split())
    return one_line if len(one_line) <= MAX_LABEL_LENGTH else one_line[: MAX_LABEL_LENGTH - 1] + "…"
