"""Statistics of a run's vectors: their lengths, their mean, and how many are zero or equal. In bounded memory."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from operator import add, mul
from typing import Any, Self

from models import vectors
from producer.schedules.quality.number_stats import NumberStats, RunningStats

CHUNK_BYTES = 2**20  # of vectors, which NumPy sums up at once
MAX_MEAN_NUMBERS = 1_024  # of a longer vector the first ones, so that a summary stays small
MIN_MEAN_ROWS = 20  # the mean of fewer vectors is close to a single output, which a summary must not keep
MEAN_DIGITS = 5
MAX_DISTINCT_HASHES = 100_000  # later vectors are compared with these, so that memory stays bounded


@dataclass(frozen=True, slots=True)
class VectorStats:
    """Statistics of the vectors of a run.

    dimensions: numbers of each vector
    norms: of their Euclidean lengths
    zero: vectors of zeros only
    equal: vectors that equal an earlier one of the run
    spread: mean squared distance from the mean vector
    mean: the mean vector's first numbers; empty for a few rows
    """

    dimensions: int
    norms: NumberStats
    zero: int
    equal: int
    spread: float
    mean: tuple[float, ...]

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Read the statistics as `dataclasses.asdict` gave them."""
        return cls(**{**stored, "norms": NumberStats(**stored["norms"]), "mean": tuple(stored["mean"])})


@dataclass(slots=True)
class VectorAccumulator:
    """Collects vectors one by one; those of other dimensions than the first are left out."""

    _dimensions: int = 0
    _chunk: bytearray = field(default_factory=bytearray)
    _norms: RunningStats = field(default_factory=RunningStats)
    _sums: list[float] = field(default_factory=list)
    _squares: float = 0.0  # of the numbers that are summed up
    _zero: int = 0
    _equal: int = 0
    _hashes: set[int] = field(default_factory=set)

    def add(self, vector: bytes) -> None:
        """Add one vector."""
        if not self._dimensions:
            self._dimensions = vectors.dimensions(vector)
        if vectors.dimensions(vector) != self._dimensions:
            return
        digest = hash(vector)
        if digest in self._hashes:
            self._equal += 1
        elif len(self._hashes) < MAX_DISTINCT_HASHES:
            self._hashes.add(digest)
        self._chunk += vector
        if len(self._chunk) >= CHUNK_BYTES:
            self._add_chunk()

    def summarize(self) -> VectorStats | None:
        """Return the statistics of all vectors so far; None without any."""
        self._add_chunk()
        count = self._norms.count
        if not count:
            return None
        mean = [number / count for number in self._sums]
        spread = max(self._squares / count - sum(map(mul, mean, mean)), 0.0)
        kept = tuple(float(f"{number:.{MEAN_DIGITS}g}") for number in mean) if count >= MIN_MEAN_ROWS else ()
        return VectorStats(
            self._dimensions, NumberStats(**self._norms.as_dict()), self._zero, self._equal, spread, kept
        )

    def _add_chunk(self) -> None:
        chunk, self._chunk = self._chunk, bytearray()
        if not chunk:
            return
        norms, sums, squares = _measure(chunk, self._dimensions)
        self._sums = list(map(add, self._sums, sums)) if self._sums else list(sums)
        self._squares += squares
        self._zero += norms.count(0.0)
        for norm in norms:
            self._norms.add(norm)


def _measure(chunk: bytearray, dimensions: int) -> tuple[list[float], list[float], float]:
    """Return the norms of the vectors, the sum of their first numbers, and the sum of the squares of those."""
    try:
        import numpy  # worth its import, and not a dependency of the producer
    except ImportError:
        return _measure_slowly(chunk, dimensions)
    matrix = numpy.frombuffer(chunk, "<f4").reshape(-1, dimensions).astype(numpy.float64)
    part = matrix[:, :MAX_MEAN_NUMBERS]
    norms = numpy.sqrt((matrix * matrix).sum(axis=1))
    return norms.tolist(), part.sum(axis=0).tolist(), float((part * part).sum())


def _measure_slowly(chunk: bytearray, dimensions: int) -> tuple[list[float], list[float], float]:
    norms: list[float] = []
    sums, squares = [0.0] * min(dimensions, MAX_MEAN_NUMBERS), 0.0
    size = dimensions * vectors.NUMBER_BYTES
    for start in range(0, len(chunk), size):
        numbers: Sequence[float] = array("d", vectors.to_numbers(bytes(chunk[start : start + size])))
        part = numbers[:MAX_MEAN_NUMBERS]
        norms.append(sqrt(sum(map(mul, numbers, numbers))))
        sums = list(map(add, sums, part))
        squares += sum(map(mul, part, part))
    return norms, sums, squares
