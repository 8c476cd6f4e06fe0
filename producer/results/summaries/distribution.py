"""How the outputs of a batch are distributed: labels, scores, lengths and entities, from a sample. Pure."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from producer.results.summaries.features import Features, features_of
from producer.results.summaries.samples import Sample

MAX_LABELS = 12
MAX_LABEL_CHARACTERS = 200
MAX_BUCKETS = 20
MAX_COUNTED_ENTITIES = 8  # rows with more are counted together
NICE_STEPS = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Share:
    """A label with the number and the share of those that have it; `label` is None for all others together."""

    label: str | None
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """The number of values from `low` to before `high`; the last bucket includes `high`."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """The distribution of outputs.

    sampled, total: the results that were read, and those that there are
    succeeded: of those that were read
    labels: the most frequent first, then all others together
    other_labels: how many labels these others are
    entities: rows by the number of their entities
    vector_length: if the outputs are vectors
    too_large: outputs that were not looked into
    versions: results by the id of their model version
    """

    sampled: int
    total: int
    succeeded: int
    labels: tuple[Share, ...] = ()
    other_labels: int = 0
    are_entities: bool = False
    scores: tuple[Bucket, ...] = ()
    median_score: float | None = None
    lengths: tuple[Bucket, ...] = ()
    median_length: float | None = None
    median_words: float | None = None
    entities: tuple[Share, ...] = ()
    vector_length: int | None = None
    truncated: int = 0
    too_large: int = 0
    versions: dict[int, int] = field(default_factory=dict)

    @property
    def is_partial(self) -> bool:
        """Whether it comes from a sample."""
        return self.sampled < self.total


def distribution_of(sample: Sample) -> Distribution:
    """Return the distribution of a sample's outputs."""
    answered = [result for result in sample.results if result.status == "succeeded"]
    features = [features_of(result.output) for result in answered if result.output is not None]
    labels = Counter(label[:MAX_LABEL_CHARACTERS] for item in features for label in item.labels)
    scores = [item.score for item in features if item.score is not None]
    lengths = [item.length for item in features if item.length is not None]
    words = [item.words for item in features if item.words is not None]
    vector_lengths = [result.vector_length for result in answered if result.vector_length is not None]
    vector_lengths += [item.vector_length for item in features if item.vector_length is not None]
    return Distribution(
        sampled=len(sample.results),
        total=sample.total,
        succeeded=len(answered),
        labels=top_shares(labels),
        other_labels=max(0, len(labels) - MAX_LABELS),
        are_entities=any(item.entities for item in features),
        scores=_score_buckets(scores),
        median_score=_median(scores),
        lengths=length_buckets(lengths),
        median_length=_median(lengths),
        median_words=_median(words),
        entities=_entity_shares(features),
        vector_length=statistics.mode(vector_lengths) if vector_lengths else None,
        truncated=sum(result.truncated for result in answered),
        too_large=sum(result.is_too_large for result in answered),
        versions=dict(Counter(r.model_version_id for r in sample.results if r.model_version_id is not None)),
    )


def top_shares(counts: Counter[str]) -> tuple[Share, ...]:
    """Return the most frequent labels with their shares, then all others together."""
    total = counts.total()
    shares = [Share(label, count, count / total) for label, count in counts.most_common(MAX_LABELS)]
    rest = total - sum(share.count for share in shares)
    return (*shares, Share(None, rest, rest / total)) if rest else tuple(shares)


def length_buckets(values: Sequence[int]) -> tuple[Bucket, ...]:
    """Return at most 20 buckets with round bounds for whole numbers of at least 0."""
    if not values:
        return ()
    low, high = min(values), max(values)
    step = nice_step((high - low + 1) / MAX_BUCKETS)
    start = low - low % step
    return _fill(values, [start + step * number for number in range((high - start) // step + 2)])


def nice_step(least: float) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, 50 and so on that is at least this."""
    power: int = 10 ** max(0, math.floor(math.log10(max(1.0, least))))
    return next(step * power for step in NICE_STEPS if step * power >= least)


def _median(values: Sequence[float]) -> float | None:
    median = statistics.median(values) if values else None
    return median if median is not None and math.isfinite(median) else None


def _score_buckets(values: Sequence[float]) -> tuple[Bucket, ...]:
    if not values:
        return ()
    low, high = min(values), max(values)
    if low >= 0 and high <= 1:  # probabilities
        low, high = 0.0, 1.0
    elif high == low:
        half = max(0.5, abs(low) / 2)
        low, high = low - half, high + half
    if not 0 < (high - low) / MAX_BUCKETS < math.inf:  # too close or too far apart for bounds between them
        return ()
    return _fill(values, [low + (high - low) * number / MAX_BUCKETS for number in range(MAX_BUCKETS + 1)])


def _fill(values: Iterable[float], bounds: Sequence[float]) -> tuple[Bucket, ...]:
    counts = [0] * (len(bounds) - 1)
    width = (bounds[-1] - bounds[0]) / len(counts)
    for value in values:
        counts[min(len(counts) - 1, max(0, int((value - bounds[0]) / width)))] += 1
    return tuple(Bucket(bounds[place], bounds[place + 1], count) for place, count in enumerate(counts))


def _entity_shares(features: Sequence[Features]) -> tuple[Share, ...]:
    numbers = [item.entities for item in features if item.entities is not None]
    if not any(numbers):
        return ()
    counts = Counter(min(number, MAX_COUNTED_ENTITIES) for number in numbers)
    names = {MAX_COUNTED_ENTITIES: f"{MAX_COUNTED_ENTITIES} or more"}
    return tuple(
        Share(names.get(number, str(number)), counts[number], counts[number] / len(numbers))
        for number in range(max(counts) + 1)
    )
