"""Planning decides which rows share a forward pass. Pure; sizes are in tokens."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import accumulate, groupby, takewhile
from operator import attrgetter
from typing import Any

from models.documents import to_json
from worker.adapters.rows import MAX_PADDING_FACTOR, MicroBatch, Row
from worker.leasing.leases import Job


class MicroBatchPlanner:
    """Plans one micro-batch at a time, each within the token budget of that moment.

    Sorting by length keeps padding small. The longest rows go first: a budget too large for the memory shows at once,
    and the last micro-batches are cheap.
    """

    def __init__(self, rows: Sequence[Row], max_rows: int) -> None:
        groups: dict[Hashable, list[Row]] = defaultdict(list)
        for row in rows:
            groups[row.key].append(row)
        # The longest at the end, where removing is cheap; rows of equal length keep their order.
        self._groups = [
            sorted(group, key=lambda row: row.padded_length, reverse=True)[::-1] for group in reversed(groups.values())
        ]
        self._max_rows = max_rows

    @property
    def has_rows(self) -> bool:
        """Whether any row is left."""
        return bool(self._groups)

    def next(self, budget_tokens: int) -> MicroBatch | None:
        """Return the longest rows left, up to `budget_tokens` padded tokens, or one row; None when none is left."""
        if not self._groups:
            return None
        group = self._groups[-1]
        return self._pop(group[-1].max_rows or min(self._max_rows, max(1, _count_fitting(group, budget_tokens))))

    def next_compatible(self, row: Row, budget_tokens: int, max_rows: int) -> MicroBatch | None:
        """Return rows as `next` does, but only such that may share a forward pass with `row`; None without any."""
        if not self._groups or self._groups[-1][-1].key != row.key:
            return None
        return self._pop(min(max_rows, max(1, _count_fitting(self._groups[-1], budget_tokens))))

    def _pop(self, row_count: int) -> MicroBatch:
        group = self._groups[-1]
        rows = group[-row_count:][::-1]
        del group[-row_count:]
        if not group:
            self._groups.pop()
        return MicroBatch(tuple(rows))


def _count_fitting(group: Sequence[Row], budget_tokens: int) -> int:
    """How many rows from the group's end fit into the budget."""
    longest = group[-1]
    if longest.padded_length == 0:
        return len(group)
    padded_count = budget_tokens // longest.padded_length
    if not longest.packed:
        return padded_count
    tokens = accumulate(row.length for row in reversed(group))
    packed_count = sum(1 for _ in takewhile(lambda total: total <= budget_tokens, tokens))
    return min(MAX_PADDING_FACTOR * padded_count, packed_count)


def plan_micro_batches(rows: Sequence[Row], budget_tokens: int, max_rows: int) -> list[MicroBatch]:
    """Plan all rows into micro-batches of at most `budget_tokens` padded tokens and `max_rows` rows."""
    planner = MicroBatchPlanner(rows, max_rows)
    micro_batches = []
    while (micro_batch := planner.next(budget_tokens)) is not None:
        micro_batches.append(micro_batch)
    return micro_batches


def group_duplicates(
    jobs: Sequence[Job], uses_sampling: Callable[[Mapping[str, Any]], bool]
) -> list[tuple[Job, tuple[Job, ...]]]:
    """Return the distinct jobs in their order, each with its duplicates; jobs that sample have none."""
    first_jobs: dict[Hashable, Job] = {}
    duplicates: dict[Hashable, list[Job]] = {}
    for lease, lease_jobs in groupby(jobs, key=attrgetter("lease")):
        samples = uses_sampling(lease.parameters)  # all jobs of a slice share their parameters
        templates = {} if lease.prompt is None else lease.prompt.parameters
        recipe = to_json(lease.parameters | templates)
        for job in lease_jobs:
            key: Hashable = (lease.batch_id, job.position) if samples else (recipe, _input_key(job.input))
            if first_jobs.setdefault(key, job) is not job:
                duplicates.setdefault(key, []).append(job)
    return [(job, tuple(duplicates.get(key, ()))) for key, job in first_jobs.items()]


def _input_key(job_input: Mapping[str, Any]) -> Hashable:
    """Return what only equal inputs have in common: the texts themselves, and anything else as JSON in a tuple."""
    values = [value if type(value) is str else (to_json(value),) for value in job_input.values()]
    return (*job_input, *values)
