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


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What goes through the model in one forward pass, each row padded to the longest."""

    rows: tuple[Encoded, ...]

    @property
    def width(self) -> int:
        """The length that every row is padded to."""
        return max(row.width or row.length for row in self.rows)

    @property
    def padded_tokens(self) -> int:
        """What the device really computes: rows × width."""
        return len(self.rows) * self.width


def plan(rows: Sequence[Encoded], budget: int, most_rows: int) -> list[MicroBatch]:
    """Pack rows into micro-batches of at most `budget` padded tokens and `most_rows` rows.

    Sorting by length keeps padding small; longest first, so that a budget too large for the memory shows at once and
    the tail is made of cheap ones. A row longer than the budget goes alone.
    """
    groups: dict[Hashable, list[Encoded]] = defaultdict(list)
    for row in rows:
        groups[row.key].append(row)
    batches: list[MicroBatch] = []
    for group in groups.values():
        group.sort(key=_width, reverse=True)
        start = 0
        while start < len(group):
            longest = group[start]
            count = longest.most or min(most_rows, max(1, budget // max(1, _width(longest))))
            batches.append(MicroBatch(tuple(group[start : start + count])))
            start += count
    return batches


def _width(row: Encoded) -> int:
    return row.width or row.length
