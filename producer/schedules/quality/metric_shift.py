"""The shift of one metric from earlier runs, and how far chance alone moves it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi, sqrt

from producer.schedules.quality.number_stats import NumberStats
from producer.schedules.quality.stats import QualityStats

MIN_ROWS = 20  # with fewer, one odd row is a large share

# A normal sample's mean absolute deviation is sqrt(2/pi) of its standard deviation (Geary 1935, Biometrika 27).
MEAN_DEVIATION_RATIO = sqrt(2 / pi)
# Extra standard deviations before a shift counts: chance exceeds this in about one run of a thousand (simulated).
MIN_STANDARD_DEVIATIONS = 3.0

MIN_SHIFT = 0.01  # with millions of rows, smaller shifts are significant but irrelevant


@dataclass(frozen=True, slots=True)
class MetricShift:
    """The shift of one metric, from 0 to 1; `is_significant` is True if chance alone is an unlikely cause."""

    metric: str
    distance: float
    is_significant: bool
    description: str  # such as "mean score 0.93 → 0.81"


def share_shift(
    metric: str,
    current: QualityStats,
    baseline: Sequence[QualityStats],
    count_rows: Callable[[QualityStats], tuple[int, int]],
) -> MetricShift | None:
    """Return the shift of a share from the mean of the earlier runs' shares; None without rows to compare.

    count_rows: function that returns a run's rows of this kind, and all rows that could be
    """
    count, rows = count_rows(current)
    runs = [pair for pair in map(count_rows, baseline) if pair[1]]
    if not rows or not runs:
        return None
    share, mean = count / rows, sum(part / whole for part, whole in runs) / len(runs)
    size = effective_sample_size(rows, [whole for _, whole in runs])
    pooled = share * (1 - size / rows) + mean * size / rows
    distance = abs(share - mean)
    description = f"{metric} {format_percent(mean)} → {format_percent(share)}"
    return metric_shift(metric, distance, chance_distance([pooled, 1 - pooled], size), rows, description)


def mean_and_chance_distance(current: NumberStats, baseline: Sequence[NumberStats]) -> tuple[float, float]:
    """Return the mean of the runs' means, and the distance from it that chance explains for the current run."""
    mean = sum(run.mean for run in baseline) / len(baseline)
    variance = current.deviation**2 / current.count
    variance += sum(run.deviation**2 / run.count for run in baseline) / len(baseline) ** 2
    return mean, (MEAN_DEVIATION_RATIO + MIN_STANDARD_DEVIATIONS) * sqrt(variance)


def effective_sample_size(rows: int, baseline_sizes: Sequence[int]) -> float:
    """Return the size of one sample as uncertain as the current run's difference from the mean of earlier runs."""
    return 1 / (1 / rows + sum(1 / size for size in baseline_sizes) / len(baseline_sizes) ** 2)


def chance_distance(shares: Sequence[float], size: float) -> float:
    """Return the distance that chance explains between the shares of two samples, of so many rows together."""
    varied = [sqrt(max(share * (1 - share), 0.0)) for share in shares]
    greatest = max(shares)
    widest = sqrt(max(greatest * (1 - greatest), 0.0)) if greatest >= 0.5 else 0.5  # over all sets of labels
    return (MEAN_DEVIATION_RATIO * sum(varied) / 2 + MIN_STANDARD_DEVIATIONS * widest) / sqrt(size)


def metric_shift(metric: str, distance: float, chance: float, rows: int, description: str) -> MetricShift:
    """Return the shift of a metric over so many rows; `chance` is the distance that chance explains."""
    is_significant = rows >= MIN_ROWS and distance > chance and distance >= MIN_SHIFT
    return MetricShift(metric, distance, is_significant, description)


def format_percent(share: float) -> str:
    """Return a share such as `0.4 %` or `62 %`."""
    return f"{100 * share:.{0 if share >= 0.1 else 1}f} %"
