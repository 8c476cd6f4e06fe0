"""Drift: how far a run's results are from those of the runs before, beyond what chance does to samples so large."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import pi, sqrt
from typing import Any

from models.pipelines import redaction
from producer.schedules.quality.stats import Quality, Spread

MOST_RUNS = 7  # a week of nights: each weekday once
FEWEST_ROWS = 20  # of fewer, one odd row makes a large share

# A normal sample's mean absolute deviation is sqrt(2/pi) of its standard deviation (Geary 1935, Biometrika 27).
USUAL = sqrt(2 / pi)
# And so many standard deviations more: chance comes so far in about one night of a thousand (simulated).
RARELY = 3.0

SMALLEST = 0.01  # of millions of rows, less than that is beyond chance and still nothing
MOST_SHOWN = 3
LONGEST_LABEL = 40

CHANGED = "the model changed: "


@dataclass(frozen=True, slots=True)
class Move:
    """How far one number has moved, from 0 to 1; `counts` where chance alone would hardly do it."""

    what: str
    by: float
    counts: bool
    words: str  # such as "mean score 0.93 → 0.81"


@dataclass(frozen=True, slots=True)
class Drift:
    """The moves against the mean of so many runs; none where there are none."""

    runs: int
    moves: tuple[Move, ...]

    @property
    def worst(self) -> float:
        """The farthest move that counts, from 0 to 1."""
        return max((move.by for move in self.moves if move.counts), default=0.0)

    @property
    def sentence(self) -> str:
        """The three farthest moves that count; empty where there are none."""
        told = sorted((move for move in self.moves if move.counts), key=lambda move: -move.by)
        return ", ".join(move.words for move in told[:MOST_SHOWN])

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        moves = [asdict(move) for move in self.moves]
        return {"worst": self.worst, "sentence": self.sentence, "runs": self.runs, "moves": moves}


def drift(now: Quality, before: Sequence[Quality], *, hides_labels: bool = False) -> Drift:
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
    runs = before[:MOST_RUNS]
    moves = (
        _labels(now, runs, redaction.value if hides_labels else _short),
        _share("failed", now, runs, lambda run: (run.failed, run.succeeded + run.failed)),
        _share("empty", now, runs, lambda run: (run.empty, run.succeeded)),
        _share("truncated", now, runs, lambda run: (run.truncated, run.succeeded)),
        _score(now, runs),
        _length(now, runs),
    )
    return Drift(len(runs), tuple(move for move in moves if move is not None))


def changes(now: Quality, before: Quality) -> str | None:
    """What changed in the models that answered, in a sentence; None where nothing did, or one of the two has none."""
    if not now.versions or not before.versions or now.versions.keys() == before.versions.keys():
        return None
    return f"{CHANGED}{_versions(before)} → {_versions(now)}"


def _labels(now: Quality, before: Sequence[Quality], spelled: Callable[[str], str]) -> Move | None:
    runs = [run for run in before if run.labelled]
    if not now.labelled or not runs:
        return None
    tonight, *earlier = _comparable([now, *runs])
    mean = {label: sum(run[label] for run in earlier) / len(earlier) for label in tonight}
    apart = {label: tonight[label] - mean[label] for label in tonight}
    size = _size(now.labelled, [run.labelled for run in runs])
    weight = size / now.labelled  # of the mean, in what both are thought to be samples of
    pooled = [tonight[label] * (1 - weight) + mean[label] * weight for label in tonight]
    by = sum(map(abs, apart.values())) / 2
    named = sorted((label for label in apart if label is not None), key=lambda label: -abs(apart[label]))
    words = ", ".join(
        f"{spelled(label)} {_percent(mean[label])} → {_percent(tonight[label])}"
        for label in named[: 1 if len(apart) <= 2 else 2]
    )
    return Move("labels", by, _counts(by, _by_chance(pooled, size), now.labelled), words or "labels changed")


def _comparable(runs: Sequence[Quality]) -> list[dict[str | None, float]]:
    """Shares by the same labels in all; under None what not every run names, unless it has named all it saw."""
    named = {label for run in runs for label in run.labels}
    known = sorted(label for label in named if all(label in run.labels or not run.other_labels for run in runs))
    shares: list[dict[str | None, float]] = []
    for run in runs:
        found = run.shares
        shares.append({label: found.get(label, 0.0) for label in known})
        shares[-1][None] = max(0.0, 1.0 - sum(shares[-1].values()))
    if all(share[None] < 1e-9 for share in shares):
        for share in shares:
            del share[None]
    return shares


def _share(
    what: str, now: Quality, before: Sequence[Quality], counted: Callable[[Quality], tuple[int, int]]
) -> Move | None:
    count, rows = counted(now)
    runs = [pair for pair in map(counted, before) if pair[1]]
    if not rows or not runs:
        return None
    share, mean = count / rows, sum(part / whole for part, whole in runs) / len(runs)
    size = _size(rows, [whole for _, whole in runs])
    pooled = share * (1 - size / rows) + mean * size / rows
    by = abs(share - mean)
    words = f"{what} {_percent(mean)} → {_percent(share)}"
    return Move(what, by, _counts(by, _by_chance([pooled, 1 - pooled], size), rows), words)


def _score(now: Quality, before: Sequence[Quality]) -> Move | None:
    runs = [run.scores for run in before if run.scores]
    if now.scores is None or not runs or any(one.least < 0 or one.greatest > 1 for one in (now.scores, *runs)):
        return None  # none, or no probabilities: nobody knows how far is far
    mean, chance = _means(now.scores, runs)
    by = abs(now.scores.mean - mean)
    words = f"mean score {mean:.2f} → {now.scores.mean:.2f}"
    return Move("score", by, _counts(by, chance, now.scores.count), words)


def _length(now: Quality, before: Sequence[Quality]) -> Move | None:
    runs = [run.lengths for run in before if run.lengths]
    if now.lengths is None or not runs:
        return None
    mean, chance = _means(now.lengths, runs)
    greater = max(mean, now.lengths.mean) or 1.0
    by = abs(now.lengths.mean - mean) / greater
    words = f"mean length {mean:.0f} → {now.lengths.mean:.0f} characters"
    return Move("length", by, _counts(by, chance / greater, now.lengths.count), words)


def _means(now: Spread, runs: Sequence[Spread]) -> tuple[float, float]:
    """The mean of the runs' means, and how far tonight's may be from it by chance."""
    mean = sum(run.mean for run in runs) / len(runs)
    variance = now.deviation**2 / now.count
    variance += sum(run.deviation**2 / run.count for run in runs) / len(runs) ** 2
    return mean, (USUAL + RARELY) * sqrt(variance)


def _size(rows: int, before: Sequence[int]) -> float:
    """The size of one sample that is as uncertain as the difference of tonight's and the mean of those before."""
    return 1 / (1 / rows + sum(1 / size for size in before) / len(before) ** 2)


def _by_chance(shares: Sequence[float], size: float) -> float:
    varied = [sqrt(max(share * (1 - share), 0.0)) for share in shares]
    greatest = max(shares)
    widest = sqrt(max(greatest * (1 - greatest), 0.0)) if greatest >= 0.5 else 0.5  # of any set of labels
    return (USUAL * sum(varied) / 2 + RARELY * widest) / sqrt(size)


def _counts(by: float, chance: float, rows: int) -> bool:
    return rows >= FEWEST_ROWS and by > chance and by >= SMALLEST


def _versions(quality: Quality) -> str:
    return " and ".join(sorted(_cut(version) for version in quality.versions))


def _cut(version: str) -> str:
    model, _, revision = version.rpartition("@")
    kind, colon, digest = revision.rpartition(":")  # a folder's has the name of its hash before it
    return f"{model}@{kind}{colon}{digest[:12]}"


def _short(label: str) -> str:
    one_line = " ".join(label.split())
    return one_line if len(one_line) <= LONGEST_LABEL else one_line[: LONGEST_LABEL - 1] + "…"


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.1 else 1}f} %"
