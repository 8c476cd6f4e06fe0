"""Preparation: the jobs of a claim become rows of tokens, a bounded window at a time. Of the claim thread alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from models.errors import JobError
from worker import process_memory
from worker.adapters.rows import Row
from worker.engine import planning
from worker.engine.bisection import isolate_failures, strip_tracebacks
from worker.engine.watchdog import Watchdog
from worker.leasing.chunking import split_into_chunks
from worker.leasing.leases import Job, JobSize, SliceRange

if TYPE_CHECKING:
    from worker.adapters.interface import Adapter


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """Rows for the device, and those that can't be answered, each with the reason."""

    rows: list[Row]
    rejected: list[tuple[Row, Exception]]


class RowPreparer:
    """Tokenizes as much as makes a window of about `most_bytes`; each call of the tokenizer is watched by itself."""

    def __init__(
        self, adapter: "Adapter", uses_sampling: Callable[[Mapping[str, Any]], bool], watchdog: Watchdog, max_bytes: int
    ) -> None:
        self._adapter = adapter
        self._uses_sampling = uses_sampling
        self._watchdog = watchdog
        self._max_bytes = max_bytes

    def prepare(self, jobs: Iterable[Job]) -> Iterator[PreparedRows]:
        """What the jobs come to; equal inputs become one row. Several windows where their rows are large."""
        rows: list[Row] = []
        refused: list[tuple[Row, Exception]] = []
        held = 0
        for some in split_into_calls(planning.group_duplicates(list(jobs), self._uses_sampling)):
            added = self._prepare_call(some, refused)
            rows += added
            held += sum(row.memory_bytes for row in added)
            if held >= self._max_bytes:
                yield PreparedRows(rows, refused)
                rows, refused, held = [], [], 0
        if rows or refused:
            yield PreparedRows(rows, refused)

    def _prepare_call(
        self, distinct_jobs: Sequence[tuple[Job, tuple[Job, ...]]], rejected: list[tuple[Row, Exception]]
    ) -> list[Row]:
        rows: list[Row] = []
        with self._watchdog.watch():
            found = isolate_failures(self._encode_distinct, distinct_jobs)
        for (job, alike), encoded in found:
            if isinstance(encoded, Exception):
                rejected.append((Row(job, None, 0, truncated=False, duplicates=alike), strip_tracebacks(encoded)))
            else:
                rows += [replace(row, duplicates=alike) for row in encoded] if alike else encoded
        if sum(job.size_bytes for job, _ in distinct_jobs) > MAX_CALL_BYTES:
            process_memory.trim_heap()  # a tokenizer takes and frees far more than it leaves behind
        return rows

    def _encode_distinct(self, distinct_jobs: Sequence[tuple[Job, Sequence[Job]]]) -> Sequence[list[Row] | JobError]:
        return self._adapter.encode([job for job, _ in distinct_jobs])


# What goes to a tokenizer in one call: it takes up to 1,300 bytes for a character, and nobody hears of it meanwhile.
MAX_CALL_BYTES, MAX_CALL_JOBS = 65_536, 256


def plan_reads(sizes: Iterable[JobSize], max_bytes: int) -> Iterator[list[SliceRange]]:
    """What to read at a time, in order: inputs of so many bytes, or one input."""
    for some in split_into_chunks(sizes, lambda size: size.size_bytes, max_bytes):
        stretches: list[SliceRange] = []
        for size in some:
            if stretches and stretches[-1].lease is size.lease:
                stretches[-1] = SliceRange(size.lease, stretches[-1].start_position, size.position + 1)
            else:
                stretches.append(SliceRange(size.lease, size.position, size.position + 1))
        yield stretches


def split_into_calls(
    distinct_jobs: Sequence[tuple[Job, tuple[Job, ...]]],
) -> Iterator[list[tuple[Job, tuple[Job, ...]]]]:
    """Jobs with their twins, as many as are tokenized at a time."""
    return split_into_chunks(distinct_jobs, lambda one: one[0].size_bytes, MAX_CALL_BYTES, MAX_CALL_JOBS)
