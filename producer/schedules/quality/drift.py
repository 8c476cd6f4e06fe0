"""Drift: how far a run's results are from those of the runs before, beyond what chance does to samples so large."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import pi, sqrt
from typing import Any

from models.pipelines import redaction
from producer.schedules.quality.stats import NumberStats, QualityStats

MAX_BASELINE_RUNS = 7  # a week of nights: each weekday once
MIN_ROWS = 20  # of fewer, one odd row makes a large share

# A normal sample's mean absolute deviation is sqrt(2/pi) of its standard deviation (Geary 1935, Biometrika 27).
MEAN_DEVIATION_RATIO = sqrt(2 / pi)
# And so many standard deviations more: chance comes so far in about one night of a thousand (simulated).
MIN_STANDARD_DEVIATIONS = 3.0

MIN_SHIFT = 0.01  # of millions of rows, less than that is beyond chance and still nothing
MAX_SHIFTS_SHOWN = 3
MAX_LABEL_LENGTH = 40

MODEL_CHANGED_PREFIX = "the model changed: "


@dataclass(frozen=True, slots=True)
class MetricShift:
    """How far one number has moved, from 0 to 1; `counts` where chance alone would hardly do it."""

    what: str
    by: float
    counts: bool
    words: str  # such as "mean score 0.93 → 0.81"


@dataclass(frozen=True, slots=True)
class Drift:
    """The moves against the mean of so many runs; none where there are none."""

    baseline_count: int
    shifts: tuple[MetricShift, ...]

    @property
    def max_shift(self) -> float:
        """The farthest move that counts, from 0 to 1."""
        return max((move.by for move in self.shifts if move.counts), default=0.0)

    @property
    def description(self) -> str:
        """The three farthest moves that count; empty where there are none."""
        told = sorted((move for move in self.shifts if move.counts), key=lambda move: -move.by)
        return ", ".join(move.words for move in told[:MAX_SHIFTS_SHOWN])

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        moves = [asdict(move) for move in self.shifts]
        return {"worst": self.max_shift, "sentence": self.description, "runs": self.baseline_count, "moves": moves}


def measure_drift(current: QualityStats, baseline: Sequence[QualityStats], *, redact_labels: bool = False) -> Drift:
    """Hold a run against those before it, newest first; at most 7 of them are looked at.

    `hides_labels`: labels are people's own texts, and stand in sentences as hashes.

    Labels move by the total variation distance of their shares, half the sum of the absolute differences (Levin and
    Peres, Markov Chains and Mixing Times, 4.1); the shares of failed, empty and truncated rows and the mean score by
    their difference; the mean length by its difference over the greater one. Each run before weighs the same.

    Samples of the same source differ by chance. A move counts only where it is farther than such samples are apart on
    average and three standard deviations more, by a hundredth at least, and where tonight has 20 rows of the kind. For
    a distance between distributions the average is about half the sum of sqrt(2 p (1 - p) / (pi n)) over its labels,
    the mean absolute deviations of their shares; and it strays no farther from that than the share of the set of labels
    that varies most, since it is the greatest difference over all sets (the concentration of a maximum: Boucheron,
    Lugosi and Massart, Concentration Inequalities, chapter 5). n is the size of tonight's sample and the mean's
    together, 1 / (1/n1 + 1/n2). Entities of one text are no independent sample: their rows are counted.
    """
    runs = baseline[:MAX_BASELINE_RUNS]
    moves = (
        _label_shift(current, runs, redaction.redact_value if redact_labels else _shorten_label),
        _share_shift("failed", current, runs, lambda run: (run.failed, run.succeeded + run.failed)),
        _share_shift("empty", current, runs, lambda run: (run.empty, run.succeeded)),
        _share_shift("truncated", current, runs, lambda run: (run.truncated, run.succeeded)),
        _score_shift(current, runs),
        _length_shift(current, runs),
    )
    return Drift(len(runs), tuple(move for move in moves if move is not None))


def describe_model_change(current: QualityStats, previous: QualityStats) -> str | None:
    """What changed in the models that answered, in a sentence; None where nothing did, or one of the two has none."""
    if not current.versions or not previous.versions or current.versions.keys() == previous.versions.keys():
        return None
    return f"{MODEL_CHANGED_PREFIX}{_format_versions(previous)} → {_format_versions(current)}"


def _label_shift(
    current: QualityStats, baseline: Sequence[QualityStats], format_label: Callable[[str], str]
) -> MetricShift | None:
    runs = [run for run in baseline if run.labelled]
    if not current.labelled or not runs:
        return None
    tonight, *earlier = _comparable_shares([current, *runs])
    mean = {label: sum(run[label] for run in earlier) / len(earlier) for label in tonight}
    apart = {label: tonight[label] - mean[label] for label in tonight}
    size = _effective_sample_size(current.labelled, [run.labelled for run in runs])
    weight = size / current.labelled  # of the mean, in what both are thought to be samples of
    pooled = [tonight[label] * (1 - weight) + mean[label] * weight for label in tonight]
    by = sum(map(abs, apart.values())) / 2
    named = sorted((label for label in apart if label is not None), key=lambda label: -abs(apart[label]))
    words = ", ".join(
        f"{format_label(label)} {_format_percent(mean[label])} → {_format_percent(tonight[label])}"
        for label in named[: 1 if len(apart) <= 2 else 2]
    )
    return MetricShift(
        "labels", by, _is_significant(by, _chance_distance(pooled, size), current.labelled), words or "labels changed"
    )


def _comparable_shares(stats: Sequence[QualityStats]) -> list[dict[str | None, float]]:
    """Shares by the same labels in all; under None what not every run names, unless it has named all it saw."""
    named = {label for run in stats for label in run.labels}
    known = sorted(label for label in named if all(label in run.labels or not run.other_labels for run in stats))
    shares: list[dict[str | None, float]] = []
    for run in stats:
        found = run.label_shares
        shares.append({label: found.get(label, 0.0) for label in known})
        shares[-1][None] = max(0.0, 1.0 - sum(shares[-1].values()))
    if all(share[None] < 1e-9 for share in shares):
        for share in shares:
            del share[None]
    return shares


def _share_shift(
    metric: str,
    current: QualityStats,
    baseline: Sequence[QualityStats],
    count_rows: Callable[[QualityStats], tuple[int, int]],
) -> MetricShift | None:
    count, rows = count_rows(current)
    runs = [pair for pair in map(count_rows, baseline) if pair[1]]
    if not rows or not runs:
        return None
    share, mean = count / rows, sum(part / whole for part, whole in runs) / len(runs)
    size = _effective_sample_size(rows, [whole for _, whole in runs])
    pooled = share * (1 - size / rows) + mean * size / rows
    by = abs(share - mean)
    words = f"{metric} {_format_percent(mean)} → {_format_percent(share)}"
    return MetricShift(metric, by, _is_significant(by, _chance_distance([pooled, 1 - pooled], size), rows), words)


def _score_shift(current: QualityStats, baseline: Sequence[QualityStats]) -> MetricShift | None:
    runs = [run.scores for run in baseline if run.scores]
    if current.scores is None or not runs or any(one.least < 0 or one.greatest > 1 for one in (current.scores, *runs)):
        return None  # none, or no probabilities: nobody knows how far is far
    mean, chance = _mean_and_chance_distance(current.scores, runs)
    by = abs(current.scores.mean - mean)
    words = f"mean score {mean:.2f} → {current.scores.mean:.2f}"
    return MetricShift("score", by, _is_significant(by, chance, current.scores.count), words)


def _length_shift(current: QualityStats, baseline: Sequence[QualityStats]) -> MetricShift | None:
    runs = [run.lengths for run in baseline if run.lengths]
    if current.lengths is None or not runs:
        return None
    mean, chance = _mean_and_chance_distance(current.lengths, runs)
    greater = max(mean, current.lengths.mean) or 1.0
    by = abs(current.lengths.mean - mean) / greater
    words = f"mean length {mean:.0f} → {current.lengths.mean:.0f} characters"
    return MetricShift("length", by, _is_significant(by, chance / greater, current.lengths.count), words)


def _mean_and_chance_distance(current: NumberStats, baseline: Sequence[NumberStats]) -> tuple[float, float]:
    """The mean of the runs' means, and how far tonight's may be from it by chance."""
    mean = sum(run.mean for run in baseline) / len(baseline)
    variance = current.deviation**2 / current.count
    variance += sum(run.deviation**2 / run.count for run in baseline) / len(baseline) ** 2
    return mean, (MEAN_DEVIATION_RATIO + MIN_STANDARD_DEVIATIONS) * sqrt(variance)


def _effective_sample_size(rows: int, baseline_sizes: Sequence[int]) -> float:
    """The size of one sample that is as uncertain as the difference of tonight's and the mean of those before."""
    return 1 / (1 / rows + sum(1 / size for size in baseline_sizes) / len(baseline_sizes) ** 2)


def _chance_distance(shares: Sequence[float], size: float) -> float:
    varied = [sqrt(max(share * (1 - share), 0.0)) for share in shares]
    greatest = max(shares)
    widest = sqrt(max(greatest * (1 - greatest), 0.0)) if greatest >= 0.5 else 0.5  # of any set of labels
    return (MEAN_DEVIATION_RATIO * sum(varied) / 2 + MIN_STANDARD_DEVIATIONS * widest) / sqrt(size)


def _is_significant(distance: float, chance_distance: float, rows: int) -> bool:
    return rows >= MIN_ROWS and distance > chance_distance and distance >= MIN_SHIFT


def _format_versions(quality: QualityStats) -> str:
    return " and ".join(sorted(_shorten_version(version) for version in quality.versions))


def _shorten_version(version: str) -> str:
    model, _, revision = version.rpartition("@")
    kind, colon, digest = revision.rpartition(":")  # a folder's has the name of its hash before it
    return f"{model}@{kind}{colon}{digest[:12]}"


def _shorten_label(label: str) -> str:
    one_line = " ".join(label.split())
    return one_line if len(one_line) <= MAX_LABEL_LENGTH else one_line[: MAX_LABEL_LENGTH - 1] + "…"


def _format_percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.1 else 1}f} %"
