"""Input guards read the inputs of claimed jobs before anything else does, in the claim thread."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.documents import to_json
from models.errors import JobError
from models.guards.screening import Screening
from models.guards.texts import collect_texts
from models.tasks.fields import MAX_TEXT_CHARACTERS
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
            screened, error = _apply(screening, job)
            if error is None:
                passed.append((screened, duplicates))
            else:
                rejected.append((rejected_row(screened, duplicates), error))
        return ScreenedJobs(passed, rejected, time.monotonic() - started, self._screener.has_models)


def _apply(screening: Screening, job: Job) -> tuple[Job, Exception | None]:
    """The job as guards leave it, and why it must not go on."""
    if screening.redacted is None:
        return Job(job.lease, job.position, job.input, job.size_bytes, screening), screening.error
    size_bytes = len(to_json(screening.redacted).encode())  # it bounds what is tokenized and queued together
    screened = Job(job.lease, job.position, screening.redacted, size_bytes, screening)
    return screened, screening.error or find_redaction_problem(job.input, screening.redacted)


def find_redaction_problem(document: Any, redacted: Any) -> JobError | None:
    """Return the error of an input that redaction changed into one that submission refuses; None = it may go on."""
    for text, left in zip(collect_texts(document), collect_texts(redacted), strict=True):
        if len(left) > MAX_TEXT_CHARACTERS:
            size = f"with its replacements a text of this input has {len(left):,} characters"
            return JobError("text_too_long", f"{size}; at most {MAX_TEXT_CHARACTERS:,} are taken")
        if text.strip() and not left.strip():
            problem = "redaction leaves nothing of a text of this input"
            return JobError("empty_text", f"{problem}; give the guard a replacement that is not blank")
    return None


def rejected_row(job: Job, duplicates: tuple[Job, ...]) -> Row:
    """The row of a job that no model reads."""
    return Row(job, None, 0, truncated=False, duplicates=duplicates, window_count=0)
