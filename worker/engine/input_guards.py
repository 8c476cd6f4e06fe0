"""Input guards read the inputs of claimed jobs before anything else does, in the claim thread."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from worker.adapters.rows import Row
from worker.guards.screener import Screener
from worker.leasing.chunking import split_into_chunks
from worker.leasing.leases import Job, Lease

DistinctJob = tuple[Job, tuple[Job, ...]]  # a job and its duplicates


@dataclass(frozen=True, slots=True)
class ScreenedJobs:
    """Jobs that the guards have read.

    passed: those to go on with, with their input redacted where a guard asked for it.
    rejected: the others, each with its reason.
    seconds: how long it took, other threads' turns on the device included.
    is_portion: whether their rows go to the device before the guards read on.
    """

    passed: Sequence[DistinctJob] = ()
    rejected: list[tuple[Row, Exception]] = field(default_factory=list)
    seconds: float = 0.0
    is_portion: bool = False


class InputGuards:
    """Screens jobs; used by the claim thread alone.

    max_chunk_bytes: of inputs that guards read together.
    is_held: whether this process holds a lease; asked before each chunk, as a batch may be cancelled while guards read.
    """

    def __init__(self, screener: Screener, max_chunk_bytes: int, is_held: Callable[[Lease], bool]) -> None:
        self._screener = screener
        self._max_chunk_bytes = max_chunk_bytes
        self._is_held = is_held

    def screen(self, distinct_jobs: Sequence[DistinctJob]) -> Iterator[ScreenedJobs]:
        """Yield the jobs in chunks, in their order; without guards, all at once. Raises Interrupted and DeviceLost.

        Jobs whose leases are no longer held are left out, unless a duplicate's lease is.
        """
        if not self._screener.has_guards:
            yield ScreenedJobs(distinct_jobs)
            return
        for chunk in split_into_chunks(distinct_jobs, lambda pair: pair[0].size_bytes, self._max_chunk_bytes):
            if held := [pair for pair in chunk if self._is_any_held(pair)]:
                yield self._screen_chunk(held)

    def _is_any_held(self, distinct_job: DistinctJob) -> bool:
        job, duplicates = distinct_job
        return self._is_held(job.lease) or any(self._is_held(duplicate.lease) for duplicate in duplicates)

    def _screen_chunk(self, distinct_jobs: Sequence[DistinctJob]) -> ScreenedJobs:
        started = time.monotonic()
        screenings = self._screener.screen([job.input for job, _ in distinct_jobs])
        passed: list[DistinctJob] = []
        rejected: list[tuple[Row, Exception]] = []
        for (job, duplicates), screening in zip(distinct_jobs, screenings, strict=True):
            document = job.input if screening.redacted is None else screening.redacted
            screened = Job(job.lease, job.position, document, job.size_bytes, screening)
            if screening.error is None:
                passed.append((screened, duplicates))
            else:
                rejected.append((rejected_row(screened, duplicates), screening.error))
        return ScreenedJobs(passed, rejected, time.monotonic() - started, self._screener.has_models)


def rejected_row(job: Job, duplicates: tuple[Job, ...]) -> Row:
    """The row of a job that no model reads."""
    return Row(job, None, 0, truncated=False, duplicates=duplicates, window_count=0)
