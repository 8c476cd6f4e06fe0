"""Statistics of a run's results, computed in one pass."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from models.states import JobOutcome
from producer.results.result_row import ResultRow
from producer.schedules.quality.guard_verdicts import GuardTally
from producer.schedules.quality.number_stats import NumberStats, RunningStats
from producer.schedules.quality.output_features import extract_features
from producer.schedules.quality.vector_stats import VectorAccumulator, VectorStats

MAX_LABELS = 50  # by name; the rest is one count, so that a summary stays small
MAX_DISTINCT_LABELS = 10_000  # labels beyond so many distinct ones count as others, so that memory stays bounded


@dataclass(frozen=True, slots=True)
class LengthStats(NumberStats):
    """Lengths of generated texts, in characters; p50 and p95 are nearest-rank percentiles."""

    p50: int
    p95: int


@dataclass(frozen=True, slots=True)
class QualityStats:
    """Statistics of the results of a run.

    labels: counts of the 50 most frequent labels, one for each row or for each entity of all rows
    other_labels: count of all other labels
    labelled: rows with at least one label
    scores, lengths: None = the outputs have none
    truncated, empty: rows that succeeded
    versions: rows by "model@revision"
    guards: rows by guard and by what it did: passed, flagged, redacted, blocked
    guard_versions: rows that a guard's model read, by guard and "model@revision"
    vectors: None = the outputs are none
    """

    rows: int
    succeeded: int
    failed: int
    reused: int
    truncated: int
    empty: int
    codes: Mapping[str, int]
    labels: Mapping[str, int]
    other_labels: int
    labelled: int
    scores: NumberStats | None
    lengths: LengthStats | None
    versions: Mapping[str, int]
    guards: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    guard_versions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    vectors: VectorStats | None = None

    @property
    def computed_rows(self) -> int:
        """Rows that succeeded in this run, without the reused ones."""
        return self.succeeded - self.reused

    @property
    def label_shares(self) -> dict[str, float]:
        """The share of each label by name, most frequent first; `other_labels` has the rest, up to 1."""
        labelled = sum(self.labels.values()) + self.other_labels
        ranked = sorted(self.labels.items(), key=lambda item: (-item[1], item[0]))  # jsonb does not keep the order
        return {label: count / labelled for label, count in ranked}

    def as_dict(self) -> dict[str, Any]:
        """Return the statistics as they are stored in JSON; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Read the result of `as_dict`; fields of a newer version are ignored."""
        values: dict[str, Any] = {field.name: stored[field.name] for field in fields(cls) if field.name in stored}
        scores, lengths = values["scores"], values["lengths"]
        values["scores"] = None if scores is None else NumberStats(**scores)
        values["lengths"] = None if lengths is None else LengthStats(**lengths)
        if values.get("vectors") is not None:
            values["vectors"] = VectorStats.from_dict(values["vectors"])
        return cls(**values)


@dataclass(slots=True)
class StatsAccumulator:
    """Collects results one by one, in bounded memory."""

    _outcomes: Counter[JobOutcome] = field(default_factory=Counter)
    _flags: Counter[str] = field(default_factory=Counter)
    _error_codes: Counter[str] = field(default_factory=Counter)
    _labels: Counter[str] = field(default_factory=Counter)
    _versions: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)
    _length_counts: Counter[int] = field(default_factory=Counter)
    _scores: RunningStats = field(default_factory=RunningStats)
    _text_lengths: RunningStats = field(default_factory=RunningStats)
    _guards: GuardTally = field(default_factory=GuardTally)
    _vectors: VectorAccumulator = field(default_factory=VectorAccumulator)

    def add_while_iterating(self, rows: Iterable[ResultRow]) -> Iterator[ResultRow]:
        """Yield the rows unchanged, and add each one on its way."""
        for row in rows:
            self.add(row)
            yield row

    def add(self, row: ResultRow) -> None:
        """Add one result."""
        self._outcomes[row.status] += 1
        if row.error_code is not None:
            self._error_codes[row.error_code] += 1
        if row.guards_json is not None:
            self._guards.add(row.guards_json)
        if row.status is not JobOutcome.SUCCEEDED:
            return
        self._versions[row.model, row.content_revision] += 1
        if row.truncated:
            self._flags["truncated"] += 1
        if row.reused_from is not None:
            self._flags["reused"] += 1
        if row.vector is not None:
            self._vectors.add(row.vector)
        else:
            self._add_output(row.output)

    def summarize(self) -> QualityStats:
        """Return the statistics of all results so far."""
        top_labels = self._labels.most_common(MAX_LABELS)
        return QualityStats(
            rows=self._outcomes.total(),
            succeeded=self._outcomes[JobOutcome.SUCCEEDED],
            failed=self._outcomes[JobOutcome.FAILED],
            reused=self._flags["reused"],
            truncated=self._flags["truncated"],
            empty=self._flags["empty"],
            codes=dict(self._error_codes.most_common()),
            labels=dict(top_labels),
            other_labels=self._labels.total() - sum(count for _, count in top_labels) + self._flags["other"],
            labelled=self._flags["labelled"],
            scores=NumberStats(**self._scores.as_dict()) if self._scores.count else None,
            lengths=self._length_stats() if self._text_lengths.count else None,
            versions={f"{model}@{revision}": count for (model, revision), count in self._versions.most_common()},
            guards=self._guards.counts(),
            guard_versions=self._guards.versions(),
            vectors=self._vectors.summarize(),
        )

    def _add_output(self, output: Any) -> None:
        features = extract_features(output)
        if features.empty:
            self._flags["empty"] += 1
        if features.labels:
            self._flags["labelled"] += 1
            for label in features.labels:
                if label in self._labels or len(self._labels) < MAX_DISTINCT_LABELS:
                    self._labels[label] += 1
                else:
                    self._flags["other"] += 1
        if features.score is not None:
            self._scores.add(features.score)
        if features.length is not None:
            self._length_counts[features.length] += 1
            self._text_lengths.add(features.length)

    def _length_stats(self) -> LengthStats:
        return LengthStats(**self._text_lengths.as_dict(), p50=self._percentile(0.5), p95=self._percentile(0.95))

    def _percentile(self, share: float) -> int:
        rank = max(1, -int(-share * self._text_lengths.count // 1))  # nearest rank, from 1, rounded up
        for length in sorted(self._length_counts):
            rank -= self._length_counts[length]
            if rank <= 0:
                return length
        raise AssertionError("ranks end with the count")
