"""Packing: which jobs share a forward pass. Pure; sizes are in tokens."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

from worker.leasing.claims import Job

ROW_BYTES = 600  # of a row in memory beside its tokens: itself, its features and its place in a window
TOKEN_BYTES = 8  # with the type of a token, or its place in a text

# Embeddings and heads see even packed rows padded. That is little work, as long as the padding is of the tokens' order.
PADDED = 2


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row of a forward pass: a job, tokenized, or one of the parts of a job that takes several rows.

    Only rows with an equal `key` may share a pass. `width` is what the row must be padded to whatever its company, and
    `most` how many rows its pass may have whatever the budget; None leaves them to the longest, and to the budget.
    A `packed` row shares its pass without padding.
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
    packed: bool = False
    twins: tuple[Job, ...] = ()

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every job that is answered by this row."""
        return (self.job, *self.twins)

    @property
    def size(self) -> int:
        """About what it takes in memory, in bytes, without its job's input."""
        return ROW_BYTES + TOKEN_BYTES * self.length

    @property
    def padded(self) -> int:
        """The least width that it needs."""
        return self.width or self.length

    def computed(self, width: int) -> int:
        """The tokens that the device computes for it in a pass of this width."""
        return self.length if self.packed else width


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What goes through the model in one forward pass, each row padded to the longest unless they are packed."""

    rows: tuple[Encoded, ...]

    @property
    def width(self) -> int:
        """The length that every row is padded to."""
        return max(row.padded for row in self.rows)

    @property
    def padded_tokens(self) -> int:
        """What the device really computes: rows × width, or where rows are packed the tokens alone."""
        width = self.width
        return sum(row.computed(width) for row in self.rows)


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
        return self._taken(group[-1].most or min(self._most_rows, max(1, _fitting(group, budget))))

    def more(self, row: Encoded, budget: int, most_rows: int) -> MicroBatch | None:
        """The same of the rows that may share a pass with one that was just taken; None when there are none."""
        if not self._groups or self._groups[-1][-1].key != row.key:
            return None
        return self._taken(min(most_rows, max(1, _fitting(self._groups[-1], budget))))

    def _taken(self, count: int) -> MicroBatch:
        group = self._groups[-1]
        taken = group[-count:][::-1]
        del group[-count:]
        if not group:
            self._groups.pop()
        return MicroBatch(tuple(taken))


def _fitting(group: Sequence[Encoded], budget: int) -> int:
    """How many rows from the group's end on keep the budget."""
    longest = group[-1]
    most = budget // max(1, longest.padded)
    if not longest.packed:
        return most
    tokens = accumulate(row.length for row in reversed(group))
    return min(PADDED * most, sum(1 for _ in takewhile(lambda total: total <= budget, tokens)))


def plan(rows: Sequence[Encoded], budget: int, most_rows: int) -> list[MicroBatch]:
    """All rows in micro-batches of at most `budget` padded tokens and `most_rows` rows."""
    packing = Packing(rows, most_rows)
    batches = []
    while (batch := packing.take(budget)) is not None:
        batches.append(batch)
    return batches
