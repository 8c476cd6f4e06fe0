"""Quality at a glance: what a run's results are like in a handful of numbers, taken in one pass over them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from models.states import Outcome
from producer.results.pages import ResultRow
from producer.schedules.quality.output_features import said

MOST_LABELS = 50  # by name; the rest is counted together, so that a summary stays small
MOST_SEEN = 10_000  # a label that comes up after so many different ones goes to the rest, so that memory stays bounded


@dataclass(frozen=True, slots=True)
class Spread:
    """Numbers as count, mean and standard deviation (of the sample), with the least and the greatest."""

    count: int
    mean: float
    deviation: float
    least: float
    greatest: float


@dataclass(frozen=True, slots=True)
class Lengths(Spread):
    """Lengths of what was written, in characters; p50 and p95 by nearest rank."""

    p50: int
    p95: int


@dataclass(frozen=True, slots=True)
class Quality:
    """What the results of a run are like.

    `labels` counts what was said: one label for each row, or each entity of all rows; the 50 most frequent by name, the
    rest in `other_labels`. `labelled` is the number of rows that say any. `scores` and `lengths` are None where outputs
    have none. `empty` and `truncated` count rows that succeeded. `versions` counts rows by "model@revision".
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
    scores: Spread | None
    lengths: Lengths | None
    versions: Mapping[str, int]

    @property
    def computed(self) -> int:
        """Rows that were neither taken from elsewhere nor given up before their turn."""
        return self.succeeded + self.failed - self.reused

    @property
    def shares(self) -> dict[str, float]:
        """The share of each label by name, the most frequent first; what they lack to 1 is the rest's."""
        said = sum(self.labels.values()) + self.other_labels
        ranked = sorted(self.labels.items(), key=lambda item: (-item[1], item[0]))  # jsonb keeps no order
        return {label: count / said for label, count in ranked}

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it; `of` reads it back."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `as_dict` gave; fields that another version added are left out."""
        known: dict[str, Any] = {one.name: stored[one.name] for one in fields(cls)}
        scores, lengths = known["scores"], known["lengths"]
        known["scores"] = None if scores is None else Spread(**scores)
        known["lengths"] = None if lengths is None else Lengths(**lengths)
        return cls(**known)


@dataclass(slots=True)
class _Sums:
    """Mean and deviation in one pass, by Welford's recurrence (Knuth, The Art of Computer Programming 2, 4.2.2)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = float("inf")
    greatest: float = float("-inf")

    def note(self, value: float) -> None:
        self.count += 1
        off = value - self.mean
        self.mean += off / self.count
        self.squares += off * (value - self.mean)
        if value < self.least:
            self.least = value
        if value > self.greatest:
            self.greatest = value

    def spread(self) -> dict[str, Any]:
        deviation = (max(self.squares, 0.0) / (self.count - 1)) ** 0.5 if self.count > 1 else 0.0
        return {
            "count": self.count, "mean": self.mean, "deviation": deviation, "least": self.least,
            "greatest": self.greatest,
        }  # fmt: skip


@dataclass(slots=True)
class Gauge:
    """Takes in results one by one; in bounded memory, however many they are."""

    _outcomes: Counter[Outcome] = field(default_factory=Counter)
    _flags: Counter[str] = field(default_factory=Counter)
    _codes: Counter[str] = field(default_factory=Counter)
    _labels: Counter[str] = field(default_factory=Counter)
    _versions: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)
    _lengths: Counter[int] = field(default_factory=Counter)
    _scores: _Sums = field(default_factory=_Sums)
    _sizes: _Sums = field(default_factory=_Sums)

    def noting(self, rows: Iterable[ResultRow]) -> Iterator[ResultRow]:
        """Pass the rows on, and take each in on its way."""
        for row in rows:
            self.note(row)
            yield row

    def note(self, row: ResultRow) -> None:
        """Take in one result."""
        self._outcomes[row.status] += 1
        if row.error_code is not None:
            self._codes[row.error_code] += 1
        if row.status is not Outcome.SUCCEEDED:
            return
        self._versions[row.model, row.revision] += 1
        if row.truncated:
            self._flags["truncated"] += 1
        if row.reused_from is not None:
            self._flags["reused"] += 1
        self._note_output(row.output)

    def quality(self) -> Quality:
        """What came in so far."""
        named = self._labels.most_common(MOST_LABELS)
        return Quality(
            rows=self._outcomes.total(), succeeded=self._outcomes[Outcome.SUCCEEDED],
            failed=self._outcomes[Outcome.FAILED], reused=self._flags["reused"], truncated=self._flags["truncated"],
            empty=self._flags["empty"], codes=dict(self._codes.most_common()), labels=dict(named),
            other_labels=self._labels.total() - sum(count for _, count in named) + self._flags["other"],
            labelled=self._flags["labelled"],
            scores=Spread(**self._scores.spread()) if self._scores.count else None,
            lengths=self._written() if self._sizes.count else None,
            versions={f"{model}@{revision}": count for (model, revision), count in self._versions.most_common()},
        )  # fmt: skip

    def _note_output(self, output: Any) -> None:
        heard = said(output)
        if heard.empty:
            self._flags["empty"] += 1
        if heard.labels:
            self._flags["labelled"] += 1
            for label in heard.labels:
                if label in self._labels or len(self._labels) < MOST_SEEN:
                    self._labels[label] += 1
                else:
                    self._flags["other"] += 1
        if heard.score is not None:
            self._scores.note(heard.score)
        if heard.length is not None:
            self._lengths[heard.length] += 1
            self._sizes.note(heard.length)

    def _written(self) -> Lengths:
        return Lengths(**self._sizes.spread(), p50=self._rank(0.5), p95=self._rank(0.95))

    def _rank(self, share: float) -> int:
        left = max(1, -int(-share * self._sizes.count // 1))  # rounded up: the nearest rank, from 1
        for length in sorted(self._lengths):
            left -= self._lengths[length]
            if left <= 0:
                return length
        raise AssertionError("ranks end with the count")
