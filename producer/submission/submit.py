"""Submitting ingests chunks of jobs while the batch is `validating`, accepts it in one transaction, and wakes workers.

A batch that is not accepted leaves nothing behind. If it has an idempotency key, this holds for an invalid source only:
after any other failure the same submission resumes where it stopped. An accepted batch is safe, whatever goes wrong.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from sqlalchemy import text

from models.db import Database
from models.errors import BatchmillError, Unreachable, UnreadableSource, UsageError
from models.settings import Settings
from producer.readers.rows import Source
from producer.submission.chunks import ChunkOptions, JobChunker
from producer.submission.discard import delete_ingested_rows, discard
from producer.submission.ingestion import Ingestion, OnProgress, OnSlicesQueued, SubmitResult
from producer.submission.open_submission import OpenSubmission, open_or_resume
from producer.submission.request import SubmitRequest
from producer.submission.resume import ResumeCheck
from producer.tenants.job_cap import JobsNeverFit
from producer.workers import model_checks

NotifyWorkers = Callable[[str, int], str | None]  # see `notify_workers`

STREAM_CHUNK_SECONDS = 1.0  # a slow source's rows are inserted after this time, so that workers can begin

ENDING_ERRORS = (UsageError, JobsNeverFit)  # after which a resumed submission would fail again

# The same submission with a repaired source becomes another batch. Locks nothing else, so it can't cause a deadlock.
CLEAR_KEY_OF_PARTIAL_BATCH = "UPDATE batches SET idempotency_key = NULL WHERE id = :batch_id"


def submit(
    database: Database,
    slice_size: int,
    request: SubmitRequest,
    source: Source,
    on_progress: OnProgress = lambda _: None,
    on_slices_queued: OnSlicesQueued = lambda _: None,
) -> SubmitResult:
    """Submit a source as one batch; under an idempotency key, the same request and source twice are one batch.

    slice_size: jobs per slice.
    on_progress: called with the number of jobs after each chunk.
    on_slices_queued: called with slices to send wakeups for while ingesting, if no row can reject the batch.

    Raises SettingsError where the model can't be there, InvalidRows or UnreadableSource naming what is wrong with the
    source, IdempotencyConflict or IdempotencyKeyInUse where the key belongs to another submission, and TooManyJobs
    where its tenant may not have so many.
    """
    model_checks.check_before_submit(database, request.pipeline, request.parameters)
    submission = open_or_resume(database, request)
    if submission.recorded_parameters is not None:
        request = request.with_recorded(submission.recorded_parameters)
    streams = _can_stream(request, submission)
    chunker = JobChunker(request.pipeline.spec, source, request.parameters, _chunk_options(request, submission))
    resume_check = ResumeCheck(submission, chunker)
    if not submission.is_open:
        resume_check.verify()
        rows = submission.rows_read
        return SubmitResult(submission.batch_id, request.pipeline.name, rows, 0, 0, rows, submission.status)
    announce = on_slices_queued if streams else None
    try:
        result = Ingestion(
            database, slice_size, request, submission, chunker, resume_check, on_progress, announce
        ).run()
    except BaseException as error:
        if resume_check.matches and (submission.idempotency_key is None or isinstance(error, ENDING_ERRORS)):
            discard(database, submission, error)
        raise
    if result.source_failure is not None and submission.idempotency_key is not None:
        with suppress(Unreachable), database.write() as connection:
            connection.execute(text(CLEAR_KEY_OF_PARTIAL_BATCH), {"batch_id": submission.batch_id})
    return result


def submit_into(
    database: Database, slice_size: int, request: SubmitRequest, submission: OpenSubmission, source: Source
) -> SubmitResult:
    """Submit a source, which may have no rows, as a batch that was taken over and has no idempotency key.

    After an error the batch is still there and `validating`. Raises what `submit` raises.
    """
    delete_ingested_rows(database, submission)
    options = ChunkOptions(keep_invalid=request.keep_invalid, allow_empty=True)
    chunker = JobChunker(request.pipeline.spec, source, request.parameters, options)
    return Ingestion(database, slice_size, request, submission, chunker, ResumeCheck(submission, chunker)).run()


def resume_into(
    database: Database,
    slice_size: int,
    request: SubmitRequest,
    submission: OpenSubmission,
    source: Source,
    *,
    streams: bool,
    max_problems: int,
    on_slices_queued: OnSlicesQueued = lambda _: None,
) -> SubmitResult:
    """Submit a source, which never changes, as a batch that was taken over; rows that are there are passed over.

    streams: jobs may run while the batch is ingesting, if no row can reject it.
    max_problems: named in a rejection.
    on_slices_queued: called with slices to send wakeups for while ingesting.

    After an error the batch is still there, as far as it was read. Raises what `submit` raises.
    """
    streams = streams and _can_stream(request, submission)
    options = replace(
        _chunk_options(request, submission),
        tolerated_errors=(UnreadableSource,) if request.keep_invalid else (),
        max_chunk_seconds=STREAM_CHUNK_SECONDS if streams else math.inf,
        max_problems=max_problems,
    )
    chunker = JobChunker(request.pipeline.spec, source, request.parameters, options)
    resume_check = ResumeCheck(submission, chunker)
    return Ingestion(
        database,
        slice_size,
        request,
        submission,
        chunker,
        resume_check,
        on_slices_queued=on_slices_queued if streams else None,
    ).run()


def notify_workers(settings: Settings, pipeline: str, slices: int) -> str | None:
    """Send wakeups for slices of an accepted batch; returns a sentence if they can't be sent, which costs only time."""
    from models.lifecycle import wakeups  # importing Celery takes a third of a second: not before the batch is safe

    try:
        wakeups.send_wakeups(settings, pipeline, slices)
    except Exception as error:  # the batch is accepted: no error may look as if it were not
        why = str(error) if isinstance(error, BatchmillError) else f"wakeups can't be sent ({type(error).__name__})"
        return f"{why}; the batch is safe in SQL and runs when a worker looks there"
    return None


class WakeupSender:
    """Sends wakeups while a batch is ingesting; none after a failure, because the source must not wait for Redis.

    notify: wakes workers for slices of a pipeline; returns a sentence if that fails
    """

    def __init__(self, notify: NotifyWorkers) -> None:
        self._notify = notify
        self._is_reachable = True

    def __call__(self, result: SubmitResult) -> None:
        """Send wakeups for these slices."""
        if self._is_reachable:
            self._is_reachable = self._notify(result.pipeline, result.slices) is None


def _chunk_options(request: SubmitRequest, submission: OpenSubmission) -> ChunkOptions:
    return ChunkOptions(
        keep_invalid=request.keep_invalid,
        boundary_position=submission.rows_read,
        max_chunk_seconds=STREAM_CHUNK_SECONDS if _can_stream(request, submission) else math.inf,
        tolerated_errors=_tolerated_errors(request),
    )


def _tolerated_errors(request: SubmitRequest) -> tuple[type[BatchmillError], ...]:
    """The errors of a source after which the rows before them become a batch, with one failed job for the others.

    Under an idempotency key an unreachable source is not tolerated: the same submission resumes when it is back.
    """
    if not request.keep_invalid:
        return ()
    return (UnreadableSource,) if request.idempotency_key is not None else (UnreadableSource, Unreachable)


def _can_stream(request: SubmitRequest, submission: OpenSubmission) -> bool:
    """Whether jobs can run while the batch is ingesting: no row can reject it, and no results are looked up at its end.

    A batch that an earlier version began without streaming has no slices yet, and goes on without.
    """
    return request.keep_invalid and not request.reuse and (submission.ingesting or submission.rows_read == 0)
