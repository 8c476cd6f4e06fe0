"""Ingestion inserts the jobs of one source into one batch, and accepts the batch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection

from models.db import Database
from models.states import BatchStatus
from producer.advice import DoorText
from producer.submission import accept, streaming
from producer.submission.accept import NO_JOBS, IngestedJobs
from producer.submission.chunks import JobChunker
from producer.submission.job_writer import JobWriter
from producer.submission.open_submission import OpenSubmission, lease_of, lock_if_held, lost_ownership_error
from producer.submission.request import SubmitRequest
from producer.submission.resume import ResumeCheck
from producer.submission.reuse import reusable_results
from producer.tenants import job_cap

OnProgress = Callable[[int], object]
OnSlicesQueued = Callable[["SubmitResult"], object]


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """An accepted batch.

    failed: jobs that failed already, as invalid.
    slices: the number of slices to send wakeups for.
    already_ingested: jobs that an interrupted submission of the same source had inserted before.
    existing_status: set if the whole batch existed under its idempotency key, and nothing was done; None = it is new.
    reused: jobs that have an earlier batch's result; None = not requested.
    not_cacheable_because: the reason why there can be no such results.
    source_failure: why the source ended early; the last job has failed in place of all rows that were not read.
    """

    batch_id: str
    pipeline: str
    jobs: int
    failed: int
    slices: int
    already_ingested: int = 0
    existing_status: BatchStatus | None = None
    reused: int | None = None
    not_cacheable_because: str | None = None
    source_failure: str | None = None

    @property
    def warning(self) -> str | None:
        """A sentence if the existing batch has ended without completing, so that nothing will run; else None."""
        return None if self.existing_status is None else warn_of_ended(self.batch_id, self.existing_status)


def warn_of_ended(batch_id: str, status: BatchStatus) -> str | None:
    """A sentence if the batch of an idempotency key has ended without completing, so that nothing will run; else None.

    status: of that batch
    """
    if status in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.COMPLETED):
        return None
    return f"{batch_id}, submitted under this key before, is {status}, and nothing was submitted now; " + DoorText(
        f"run it again with: batchmill retry {batch_id}, or use another key",
        http=f"run it again with: POST /api/batches/{batch_id}/retry, or use another key",
        page="retry its jobs on its page, or submit again",
    )


@dataclass(frozen=True, slots=True)
class Ingestion:
    """The rows of one source on their way into one batch.

    on_progress: called with the number of jobs after each chunk.
    on_slices_queued: set for a streamed batch, whose slices can be claimed while it is ingesting.
    """

    database: Database
    slice_size: int
    request: SubmitRequest
    submission: OpenSubmission
    chunker: JobChunker
    resume_check: ResumeCheck
    on_progress: OnProgress = lambda _: None
    on_slices_queued: OnSlicesQueued | None = None

    def run(self) -> SubmitResult:
        """Insert all jobs, and accept the batch."""
        jobs, slice_count = self._insert_jobs()
        result = replace(
            self._result(jobs), already_ingested=self.submission.rows_read, source_failure=self.chunker.source_failure
        )
        limit = self.request.max_failures
        if self.on_slices_queued is not None:
            streaming.end_ingestion(self.database, self.submission, jobs.total, limit)
            return replace(result, slices=slice_count)
        if self.request.reuse:
            return self._accept_with_reuse(jobs, result)
        return replace(result, slices=self.database.transact(partial(self._accept, jobs=jobs)))

    def _insert_jobs(self) -> tuple[IngestedJobs, int]:
        """Insert every job that the database does not have yet; returns the number of new slices of a stream too."""
        max_failures = self.request.max_failures.count if self.request.max_failures else None
        slice_size = None if self.on_slices_queued is None else self.slice_size
        writer = JobWriter(
            self.database,
            self.submission,
            self.chunker,
            slice_size=slice_size,
            max_failures=max_failures,
            check_room=self._check_room,
        )
        jobs, announced_slices = 0, 0
        with lease_of(self.database, self.submission).heartbeat_thread(), writer:
            for chunk in self.resume_check.chunks():
                if chunk.end_position <= self.submission.rows_read:
                    writer.skip(chunk)
                else:
                    writer.write(chunk, self.resume_check.rows_digest)
                    self._check_size(chunk.start_position - writer.failed)
                    if chunk.is_cut:  # a slow source: its jobs don't wait for the next chunk
                        writer.flush()
                    if writer.slices > announced_slices and self.on_slices_queued is not None:
                        self.on_slices_queued(replace(self._result(), slices=writer.slices - announced_slices))
                        announced_slices = writer.slices
                jobs = chunk.end_position
                self.on_progress(jobs)
            writer.flush()
        return IngestedJobs(jobs, writer.failed), writer.slices

    def _accept(self, connection: Connection, jobs: IngestedJobs) -> int:
        limit = self.request.max_failures
        max_failures = None if limit is None else limit.count_for(jobs.total)
        self._check_room(connection, jobs.total - jobs.answered)
        return accept.accept_batch(connection, self.database.sql, self.submission, jobs, self.slice_size, max_failures)

    def _check_room(self, connection: Connection, new_jobs: int) -> None:
        job_cap.check_room(connection, self.request.tenant, self.request.max_unanswered_jobs, new_jobs)

    def _check_size(self, stored_jobs: int) -> None:
        """Raise JobsNeverFit as soon as it is known; with `reuse` any number of jobs may be answered already."""
        if not self.request.reuse:
            job_cap.check_size(self.request.tenant, self.request.max_unanswered_jobs, stored_jobs)

    def _accept_with_reuse(self, jobs: IngestedJobs, result: SubmitResult) -> SubmitResult:
        with (
            lease_of(self.database, self.submission).heartbeat_thread(),
            reusable_results.find_reusable(self.database, self.submission, self.request, jobs.total) as reusable,
            reusable.begin(),
        ):
            if not lock_if_held(reusable.connection, self.database.sql, self.submission):
                raise lost_ownership_error(reusable.connection, self.submission)
            jobs = replace(jobs, reused=reusable.insert(jobs.failed))
            return replace(
                result,
                reused=jobs.reused,
                not_cacheable_because=reusable.not_cacheable_because,
                slices=self._accept(reusable.connection, jobs),
            )

    def _result(self, jobs: IngestedJobs = NO_JOBS) -> SubmitResult:
        return SubmitResult(self.submission.batch_id, self.request.pipeline.name, jobs.total, jobs.failed, 0)
