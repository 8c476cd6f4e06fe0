"""Packing: which jobs share a forward pass. Pure; sizes are in tokens."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from worker.claims import Job


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row of a forward pass: a job, tokenized, or one of the parts of a job that takes several rows.

    Only rows with an equal `key` may share a pass. `width` is what the row must be padded to whatever its company, and
    `most` how many rows its pass may have whatever the budget; None leaves them to the longest, and to the budget.
    `twins` are further jobs with the same input and parameters, which get the same answer.
    """

    job: Job
    features: Any
    length: int
    truncated: bool
    key: Hashable = None
    part: int = 0
    parts: int = 1
    width: int | None = None
    most: int | None = None
    twins: tuple[Job, ...] = ()

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every job that is answered by this row."""
        return (self.job, *self.twins)

    @property
    def padded(self) -> int:
        """The least width that it needs."""
        return self.width or self.length


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What goes through the model in one forward pass, each row padded to the longest."""

    rows: tuple[Encoded, ...]

    @property
    def width(self) -> int:
        """The length that every row is padded to."""
        return max(row.padded for row in self.rows)

    @property
    def padded_tokens(self) -> int:
        """What the device really computes: rows × width."""
        return len(self.rows) * self.width


class Packing:
    """Rows to be packed into micro-batches, one at a time, each for the budget of the moment.

    Sorting by length keeps padding small; longest first, so that a budget too large for the memory shows at once and
    the tail is made of cheap ones.
    """

    def __init__(self, rows: Sequence[Encoded], most_rows: int) -> None:
        groups: dict[Hashable, list[Encoded]] = defaultdict(list)
        for row in rows:
            groups[row.key].append(row)
        # The longest at the end, where taking costs nothing; equal ones in their order.
        self._groups = [
            sorted(group, key=lambda row: row.padded, reverse=True)[::-1] for group in reversed(groups.values())
        ]
        self._most_rows = most_rows

    def take(self, budget: int) -> MicroBatch | None:
        """At most `budget` padded tokens of the longest rows left, or one row; None when all are taken."""
        if not self._groups:
            return None
        group = self._groups[-1]
        longest = group[-1]
        count = longest.most or min(self._most_rows, max(1, budget // max(1, longest.padded)))
        taken = group[-count:][::-1]
        del group[-count:]
        if not group:
            self._groups.pop()
        return MicroBatch(tuple(taken))


def plan(rows: Sequence[Encoded], budget: int, most_rows: int) -> list[MicroBatch]:
    """All rows in micro-batches of at most `budget` padded tokens and `most_rows` rows."""
    packing = Packing(rows, most_rows)
    batches = []
    while (batch := packing.take(budget)) is not None:
        batches.append(batch)
    return batches
