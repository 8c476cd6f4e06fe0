"""Preparation turns the jobs of a claim into tokenized rows, a bounded portion at a time, in the claim thread."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from models.errors import JobError
from worker import process_memory
from worker.adapters.rows import Row
from worker.engine.preparing.input_guards import DistinctJob, InputGuards, rejected_row
from worker.engine.preparing.rendering import encode_rendered, rendered_bytes
from worker.leasing.chunking import split_into_chunks
from worker.leasing.leases import Job, JobSize, SliceRange
from worker.passes import planning
from worker.passes.bisection import isolate_failures, strip_tracebacks
from worker.passes.watchdog import Watchdog

if TYPE_CHECKING:
    from worker.adapters.interface import Adapter

# Of one tokenizer call: it takes up to 1,300 bytes for a character, and the watchdog can't see inside it.
MAX_CALL_BYTES, MAX_CALL_JOBS = 65_536, 256


@dataclass(slots=True)
class PreparedRows:
    """Rows for the device, and rejected ones, each with its reason.

    guard_seconds: how long guards took to read the inputs, other threads' turns on the device included.
    """

    rows: list[Row] = field(default_factory=list)
    rejected: list[tuple[Row, Exception]] = field(default_factory=list)
    guard_seconds: float = 0.0


class RowPreparer:
    """Tokenizes jobs into portions of about `max_bytes`; the watchdog watches each tokenizer call separately.

    input_guards: read the inputs first.
    """

    def __init__(
        self,
        adapter: "Adapter",
        uses_sampling: Callable[[Mapping[str, Any]], bool],
        watchdog: Watchdog,
        max_bytes: int,
        input_guards: InputGuards,
    ) -> None:
        self._adapter = adapter
        self._uses_sampling = uses_sampling
        self._watchdog = watchdog
        self._max_bytes = max_bytes
        self._input_guards = input_guards

    def prepare(self, jobs: Iterable[Job]) -> Iterator[PreparedRows]:
        """Yield the rows of these jobs in portions; jobs with equal inputs share their rows. Raises Interrupted."""
        portion, portion_bytes = PreparedRows(), 0
        for screened in self._input_guards.screen(planning.group_duplicates(list(jobs), self._uses_sampling)):
            portion.rejected += screened.rejected
            portion.guard_seconds += screened.seconds
            for call in split_into_calls(screened.passed):
                portion_bytes += self._prepare_call(call, portion)
                if portion_bytes >= self._max_bytes:
                    yield portion
                    portion, portion_bytes = PreparedRows(), 0
            if screened.is_portion:
                yield portion
                portion, portion_bytes = PreparedRows(), 0
        if portion.rows or portion.rejected:
            yield portion

    def _prepare_call(self, distinct_jobs: Sequence[DistinctJob], portion: PreparedRows) -> int:
        """Add the rows of one tokenizer call to the portion; returns their bytes."""
        rows: list[Row] = []
        with self._watchdog.watch():
            outcomes = isolate_failures(self._encode_distinct, distinct_jobs)
        for (job, duplicates), encoded in outcomes:
            if isinstance(encoded, Exception):
                portion.rejected.append((rejected_row(job, duplicates), strip_tracebacks(encoded)))
            elif duplicates:
                rows += [replace(row, duplicates=duplicates) for row in encoded]
            else:
                rows += encoded
        if sum([rendered_bytes(job) for job, _ in distinct_jobs]) > MAX_CALL_BYTES:
            process_memory.trim_heap()  # a tokenizer allocates and frees far more than it keeps
        portion.rows.extend(rows)
        # The rows of a job share its input. A rendered one may be far longer than the fields that were read, and a
        # screened one waits with its verdicts.
        jobs = [row.job for row in rows if row.part_index == 0]
        inputs = [job.memory_bytes for job in jobs if job.screening is not None or job.lease.prompt is not None]
        return sum([row.memory_bytes for row in rows]) + sum(inputs)

    def _encode_distinct(self, distinct_jobs: Sequence[DistinctJob]) -> Sequence[list[Row] | JobError]:
        return encode_rendered(self._adapter, [job for job, _ in distinct_jobs])


def plan_reads(sizes: Iterable[JobSize], max_bytes: int) -> Iterator[list[SliceRange]]:
    """Yield the ranges to read at a time, in order: inputs of up to `max_bytes`, or one input."""
    for chunk in split_into_chunks(sizes, lambda size: size.size_bytes, max_bytes):
        positions = [
            (lease, [size.position for size in sizes_of_lease])
            for lease, sizes_of_lease in groupby(chunk, key=attrgetter("lease"))
        ]
        yield [SliceRange(lease, numbers[0], numbers[-1] + 1) for lease, numbers in positions]


def split_into_calls(distinct_jobs: Sequence[DistinctJob]) -> Iterator[list[DistinctJob]]:
    """Yield the jobs of each tokenizer call."""
    return split_into_chunks(distinct_jobs, lambda pair: rendered_bytes(pair[0]), MAX_CALL_BYTES, MAX_CALL_JOBS)
