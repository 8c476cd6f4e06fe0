"""Packing: which jobs share a forward pass. Pure; sizes are in tokens."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import accumulate, takewhile
from typing import Any

from models.documents import as_json
from worker.adapters.rows import PADDED, Encoded, MicroBatch
from worker.leasing.leases import Job


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


def found(
    jobs: Sequence[Job], draws: Callable[[Mapping[str, Any]], bool]
) -> list[tuple[Job, tuple[Job, ...]]]:  # fmt: skip
    """The distinct jobs in their order, each with its twins. What `draws` by chance has none: each draws for itself."""
    groups: dict[tuple[str, str, int | None], list[Job]] = {}
    parameters: dict[int, tuple[str, bool]] = {}  # of each slice, since all its jobs share them
    for job in jobs:
        lease = job.lease
        if lease.slice_id not in parameters:
            parameters[lease.slice_id] = as_json(lease.parameters), draws(lease.parameters)
        key, alone = parameters[lease.slice_id]
        groups.setdefault((key, as_json(job.input), job.position if alone else None), []).append(job)
    return [(first, tuple(others)) for first, *others in groups.values()]
