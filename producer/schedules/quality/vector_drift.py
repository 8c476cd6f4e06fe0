"""The drift of vectors: of their norms, of their mean vector, and of how many are zero or equal."""

from collections.abc import Sequence
from math import sqrt
from operator import mul

from producer.schedules.quality.metric_shift import (
    MetricShift,
    effective_sample_size,
    mean_and_chance_distance,
    metric_shift,
    share_shift,
)
from producer.schedules.quality.stats import QualityStats
from producer.schedules.quality.vector_stats import VectorStats

CHI_SQUARED_LIMIT = 10.83  # with one degree of freedom, of mean 1


def vector_shifts(current: QualityStats, baseline: Sequence[QualityStats]) -> Sequence[MetricShift | None]:
    """Return the shifts of the shares of zero and equal vectors, of the mean norm, and of the mean vector's direction.

    Norms and directions are compared with runs of the same models only, because those of others say nothing.
    """
    if current.vectors is None:
        return ()
    runs = [run for run in baseline if run.vectors is not None]
    shares = [
        share_shift("zero vectors", current, runs, lambda run: _count_vectors(run, "zero")),
        share_shift("equal vectors", current, runs, lambda run: _count_vectors(run, "equal")),
    ]
    same = comparable_vectors(current, baseline)
    return (*shares, _norm_shift(current.vectors, same), _direction_shift(current.vectors, same))


def comparable_vectors(current: QualityStats, baseline: Sequence[QualityStats]) -> list[VectorStats]:
    """Return the vectors of those earlier runs that used the same models, and as many numbers."""
    return [
        run.vectors
        for run in baseline
        if run.vectors is not None
        and current.vectors is not None
        and run.versions.keys() == current.versions.keys()
        and run.vectors.dimensions == current.vectors.dimensions
    ]


def mean_vector_cosine(current: VectorStats, baseline: Sequence[VectorStats]) -> float | None:
    """Return the cosine of the mean vector with the mean of the earlier runs' mean vectors; None if one is unknown."""
    before = _mean_of_means(baseline)
    squares = sum(map(mul, current.mean, current.mean)) * sum(map(mul, before, before))
    return sum(map(mul, current.mean, before)) / sqrt(squares) if squares else None


def _mean_of_means(baseline: Sequence[VectorStats]) -> list[float]:
    means = [run.mean for run in baseline if run.mean]
    return [sum(numbers) / len(means) for numbers in zip(*means, strict=True)]


def _count_vectors(run: QualityStats, kind: str) -> tuple[int, int]:
    return (0, 0) if run.vectors is None else (getattr(run.vectors, kind), run.vectors.norms.count)


def _norm_shift(current: VectorStats, baseline: Sequence[VectorStats]) -> MetricShift | None:
    if not baseline:
        return None
    mean, chance = mean_and_chance_distance(current.norms, [run.norms for run in baseline])
    greater = max(mean, current.norms.mean) or 1.0
    distance = abs(current.norms.mean - mean) / greater
    description = f"mean norm {mean:.3g} → {current.norms.mean:.3g}"
    return metric_shift("norm", distance, chance / greater, current.norms.count, description)


def _direction_shift(current: VectorStats, baseline: Sequence[VectorStats]) -> MetricShift | None:
    """Return the cosine distance of the mean vector from the mean of the earlier runs' mean vectors.

    The mean of n vectors is off by a squared distance of spread / n. The angle that this makes has a cosine distance
    of at most half of it, in units of the mean's squared norm. It varies most if all vectors differ along one line.
    Then it is chi-squared with one degree of freedom, and chance exceeds 10.83 of it in one run of a thousand.
    """
    runs = [run for run in baseline if run.mean]
    cosine = mean_vector_cosine(current, runs)
    if cosine is None:
        return None
    before = _mean_of_means(runs)
    size = effective_sample_size(current.norms.count, [run.norms.count for run in runs])
    spread = max(current.spread, sum(run.spread for run in runs) / len(runs))
    chance = CHI_SQUARED_LIMIT * spread / (2 * size * sum(map(mul, before, before)))
    description = f"mean vector turned to a cosine of {cosine:.2f}"
    return metric_shift("direction", min(max(1.0 - cosine, 0.0), 1.0), chance, current.norms.count, description)
