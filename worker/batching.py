"""Packing: which jobs share a forward pass. Pure; sizes are in tokens."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from worker.claims import Job


@dataclass(frozen=True, slots=True)
class Encoded:
    """One job, tokenized. Only jobs with an equal `key` may share a forward pass."""

    job: Job
    features: Any
    length: int
    truncated: bool
    key: Hashable = None


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What goes through the model in one forward pass, each row padded to the longest."""

    rows: tuple[Encoded, ...]

    @property
    def width(self) -> int:
        """The length that every row is padded to."""
        return max(row.length for row in self.rows)

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
        group.sort(key=lambda row: row.length, reverse=True)
        start = 0
        while start < len(group):
            count = min(most_rows, max(1, budget // max(1, group[start].length)))
            batches.append(MicroBatch(tuple(group[start : start + count])))
            start += count
    return batches
