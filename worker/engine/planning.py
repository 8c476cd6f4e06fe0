"""Packing: which jobs share a forward pass. Pure; sizes are in tokens."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import accumulate, takewhile
from typing import Any

from models.documents import to_json
from worker.adapters.rows import MAX_PADDING_FACTOR, MicroBatch, Row
from worker.leasing.leases import Job


class MicroBatchPlanner:
    """Rows to be packed into micro-batches, one at a time, each for the budget of the moment.

    Sorting by length keeps padding small; longest first, so that a budget too large for the memory shows at once and
    the tail is made of cheap ones.
    """

    def __init__(self, rows: Sequence[Row], max_rows: int) -> None:
        groups: dict[Hashable, list[Row]] = defaultdict(list)
        for row in rows:
            groups[row.key].append(row)
        # The longest at the end, where taking costs nothing; equal ones in their order.
        self._groups = [
            sorted(group, key=lambda row: row.padded_length, reverse=True)[::-1] for group in reversed(groups.values())
        ]
        self._max_rows = max_rows

    def next(self, budget_tokens: int) -> MicroBatch | None:
        """At most `budget` padded tokens of the longest rows left, or one row; None when all are taken."""
        if not self._groups:
            return None
        group = self._groups[-1]
        return self._pop(group[-1].max_rows or min(self._max_rows, max(1, _count_fitting(group, budget_tokens))))

    def next_compatible(self, row: Row, budget_tokens: int, max_rows: int) -> MicroBatch | None:
        """The same of the rows that may share a pass with one that was just taken; None when there are none."""
        if not self._groups or self._groups[-1][-1].key != row.key:
            return None
        return self._pop(min(max_rows, max(1, _count_fitting(self._groups[-1], budget_tokens))))

    def _pop(self, row_count: int) -> MicroBatch:
        group = self._groups[-1]
        taken = group[-row_count:][::-1]
        del group[-row_count:]
        if not group:
            self._groups.pop()
        return MicroBatch(tuple(taken))


def _count_fitting(group: Sequence[Row], budget_tokens: int) -> int:
    """How many rows from the group's end on keep the budget."""
    longest = group[-1]
    most = budget_tokens // max(1, longest.padded_length)
    if not longest.packed:
        return most
    tokens = accumulate(row.length for row in reversed(group))
    return min(MAX_PADDING_FACTOR * most, sum(1 for _ in takewhile(lambda total: total <= budget_tokens, tokens)))


def plan_micro_batches(rows: Sequence[Row], budget_tokens: int, max_rows: int) -> list[MicroBatch]:
    """All rows in micro-batches of at most `budget` padded tokens and `most_rows` rows."""
    packing = MicroBatchPlanner(rows, max_rows)
    batches = []
    while (batch := packing.next(budget_tokens)) is not None:
        batches.append(batch)
    return batches


def group_duplicates(
    jobs: Sequence[Job], uses_sampling: Callable[[Mapping[str, Any]], bool]
) -> list[tuple[Job, tuple[Job, ...]]]:
    """The distinct jobs in their order, each with its twins. What `draws` by chance has none: each draws for itself."""
    groups: dict[tuple[str, str, int | None], list[Job]] = {}
    parameters: dict[int, tuple[str, bool]] = {}  # of each slice, since all its jobs share them
    for job in jobs:
        lease = job.lease
        if lease.slice_id not in parameters:
            parameters[lease.slice_id] = to_json(lease.parameters), uses_sampling(lease.parameters)
        key, alone = parameters[lease.slice_id]
        groups.setdefault((key, to_json(job.input), job.position if alone else None), []).append(job)
    return [(first, tuple(others)) for first, *others in groups.values()]
