"""Submitting: chunks of jobs while the batch is `validating`, one transaction that accepts it, then the bells.

A batch that is not accepted leaves nothing behind, whatever went wrong, unless it has an idempotency key: then only a
source that can't be a batch leaves nothing, and after anything else the same submission goes on where it stopped.
An accepted batch is safe, whatever goes wrong.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection, text

from models.background import HeartbeatThread
from models.db import Database, SqlFragments
from models.errors import BatchmillError, DatabaseRefused, Unreachable, UnreadableSource, UsageError
from models.lifecycle import slices, termination
from models.settings import Settings
from models.states import BatchStatus, Termination
from producer.batches import retry
from producer.readers.rows import Source
from producer.readers.storable import make_storable
from producer.submission import open_submission, reuse, streaming
from producer.submission.chunks import JobChunker
from producer.submission.job_writer import JobWriter
from producer.submission.open_submission import OpenSubmission, lost_ownership_error, open_or_resume
from producer.submission.request import SubmitRequest
from producer.submission.resume import ResumeCheck

STREAM_CHUNK_SECONDS = 1.0  # so long a slow source is read until what there is can be worked on
DELETE_CHUNK_JOBS = 50_000  # deleted at once, so that other writers of a SQLite file get their turn

# Lock order: the batch's row, then its slices, as everywhere.
ACCEPT_BATCH = """
UPDATE batches SET status = CASE WHEN :ended THEN 'completed' ELSE 'in_progress' END, in_progress_at = {now},
       completed_at = CASE WHEN :ended THEN {now} END, total = :jobs, failed = :failed, succeeded = :reused,
       reused = :reused, last_seq = :answered, max_failures = :max_failures
WHERE id = :batch_id AND status = 'validating' AND submitter = :submitter
"""

# Whoever looks for the batch's key from now on finds none, and nobody takes over what is about to go.
RELEASE_KEY = """
UPDATE batches SET idempotency_key = NULL WHERE id = :batch_id AND status = 'validating' AND submitter = :submitter
"""

# Mended, the same submission is another. It locks nothing else, so it waits for nobody who waits for it.
CLEAR_KEY_OF_PARTIAL_BATCH = "UPDATE batches SET idempotency_key = NULL WHERE id = :batch_id"

LOCK_BATCH_IF_HOLDER = (
    "SELECT 1 FROM batches WHERE id = :batch_id AND status = 'validating' AND submitter = :submitter {for_update}"
)

SELECT_LAST_POSITION = "SELECT max(position) FROM jobs WHERE batch_id = :batch_id"
DELETE_BATCH = "DELETE FROM batches WHERE id = :batch_id AND status = 'validating'"

OnProgress = Callable[[int], object]
OnSlicesQueued = Callable[["SubmitResult"], object]


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """An accepted batch: how many jobs it has, of which some may have failed already, and the slices to ring for.

    `skipped` of the jobs were in before, from a submission that was broken off. `known` says that the whole batch was:
    the idempotency key's one, which nothing was done to, in the state in which it is. `reused` are those that have an
    earlier batch's result, None where that was not asked for; `obstacle` says why there could be none. `broke_off` says
    why the source ended before its end: the last job has failed in the place of all that was not read.
    """

    batch_id: str
    pipeline: str
    jobs: int
    failed: int
    slice_ids: Sequence[int]
    already_ingested: int = 0
    existing_status: BatchStatus | None = None
    reused: int | None = None
    not_cacheable_because: str | None = None
    source_failure: str | None = None

    @property
    def warning(self) -> str | None:
        """What is wrong with a batch that was there before: nothing of this submission will be run. Else None."""
        if self.existing_status in (None, BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.COMPLETED):
            return None
        said = (
            f"{self.batch_id}, submitted under this key before, is {self.existing_status}, and "
            "nothing was submitted now"
        )
        return f"{said}; run it again with: batchmill retry {self.batch_id}, or take another key"


def submit(
    database: Database,
    slice_size: int,
    request: SubmitRequest,
    source: Source,
    on_progress: OnProgress = lambda _: None,
    on_slices_queued: OnSlicesQueued = lambda _: None,
) -> SubmitResult:
    """Take a source in as one batch; `watch` hears after each chunk how many jobs are in.

    `begun` hears of slices to ring for while more is read, where no row can refuse the batch.

    Where the request has an idempotency key, the same request and source twice are one batch. Raises RefusedBatch or
    UnreadableSource naming what is wrong with the source, and KeyConflict or KeyBusy where the key is another's.
    """
    entry = open_or_resume(database, request)
    streams = _can_stream(request, entry)
    intake = JobChunker(
        request.pipeline.spec,
        source,
        request.parameters,
        keep_invalid=request.keep_invalid,
        boundary_position=entry.rows_read,
        max_chunk_seconds=STREAM_CHUNK_SECONDS if streams else math.inf,
        tolerated_errors=_tolerated_errors(request),
    )
    rereading = ResumeCheck(entry, intake)
    if not entry.is_open:
        rereading.verify()
        return SubmitResult(
            entry.batch_id, request.pipeline.name, entry.rows_read, 0, (), entry.rows_read, entry.status
        )
    try:
        made = _ingest(
            database,
            slice_size,
            request,
            entry,
            intake,
            rereading,
            on_progress,
            on_slices_queued=on_slices_queued if streams else None,
        )
    except BaseException as error:
        if rereading.matches and (entry.idempotency_key is None or isinstance(error, UsageError)):
            with suppress(Unreachable, DatabaseRefused):
                _delete_batch(database, entry)
                streaming.abort(database, entry, str(error) or "that was interrupted")
        raise
    if made.source_failure is not None and entry.idempotency_key is not None:
        with suppress(Unreachable), database.write() as connection:
            connection.execute(text(CLEAR_KEY_OF_PARTIAL_BATCH), {"batch_id": entry.batch_id})
    return made


def submit_into(
    database: Database, slice_size: int, request: SubmitRequest, submission: OpenSubmission, source: Source
) -> SubmitResult:
    """Take a source in, which may have no rows, as the batch of an entry without a key that was taken over.

    Whatever goes wrong, the batch is still there and `validating`. Raises what `accept` raises.
    """
    delete_ingested_rows(database, submission)
    intake = JobChunker(
        request.pipeline.spec, source, request.parameters, keep_invalid=request.keep_invalid, allow_empty=True
    )
    return _ingest(database, slice_size, request, submission, intake, ResumeCheck(submission, intake), lambda _: None)


def fail_submission(database: Database, submission: OpenSubmission, code: str, message: str) -> None:
    """End the batch of an entry that is still read in; every job that is in fails so. Nothing where it is not ours."""
    message = make_storable(message)

    def work(connection: Connection) -> None:
        if _lock_if_held(connection, database.sql, submission):
            termination.begin_termination(
                connection, database.sql, submission.batch_id, Termination.FAILED, code, message
            )
            termination.close_chunk(connection, database.sql, submission.batch_id)

    database.transact(work)


def notify_workers(settings: Settings, result: SubmitResult) -> str | None:
    """Ring the bells of an accepted batch; a sentence when they can't be rung, which costs time but no job."""
    from models.lifecycle import wakeups  # Celery takes a third of a second to import: not before the batch is safe

    try:
        wakeups.send_wakeups(settings, result.pipeline, result.slice_ids)
    except Exception as error:  # the batch is accepted: nothing may look as if it were not
        why = str(error) if isinstance(error, BatchmillError) else f"the bells can't be rung ({type(error).__name__})"
        return f"{why}; the batch is safe in SQL and runs when a worker looks there"
    return None


class WakeupSender:
    """Rings while a batch is read in; where that can't be done, not again: the source must not wait for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_reachable = True

    def __call__(self, result: SubmitResult) -> None:
        """Ring for these slices."""
        self._is_reachable = self._is_reachable and notify_workers(self._settings, result) is None


def _ingest(
    database: Database,
    slice_size: int,
    request: SubmitRequest,
    submission: OpenSubmission,
    chunker: JobChunker,
    resume_check: ResumeCheck,
    on_progress: OnProgress,
    *,
    on_slices_queued: OnSlicesQueued | None = None,
) -> SubmitResult:
    allowed = request.max_failures.count if request.max_failures else None
    inserts = JobWriter(
        database, submission, chunker, slice_size=None if on_slices_queued is None else slice_size, max_failures=allowed
    )
    hear = (
        None
        if on_slices_queued is None
        else lambda: on_slices_queued(
            SubmitResult(
                submission.batch_id,
                request.pipeline.name,
                0,
                0,
                streaming.first_queued_slices(database, submission.batch_id),
            )
        )
    )
    jobs, failed = _insert_jobs(database, submission, inserts, resume_check, on_progress, hear)
    made = SubmitResult(
        submission.batch_id,
        request.pipeline.name,
        jobs,
        failed,
        (),
        submission.rows_read,
        source_failure=chunker.source_failure,
    )
    if on_slices_queued is not None:
        return replace(made, slice_ids=streaming.end_ingestion(database, submission, jobs, request.max_failures))
    allowed = None if request.max_failures is None else request.max_failures.count_for(jobs)
    if not request.reuse:
        accepting = partial(
            _accept_batch,
            sql=database.sql,
            submission=submission,
            result=made,
            slice_size=slice_size,
            max_failures=allowed,
        )
        return replace(made, slice_ids=database.transact(accepting))
    with (
        HeartbeatThread(lambda: open_submission.heartbeat(database, submission), open_submission.HEARTBEAT_SECONDS),
        reuse.find_reusable(database, submission, request, jobs) as found,
        found.begin(),
    ):
        if not _lock_if_held(found.connection, database.sql, submission):
            raise lost_ownership_error(found.connection, submission)
        made = replace(made, reused=found.insert(failed), not_cacheable_because=found.not_cacheable_because)
        return replace(
            made, slice_ids=_accept_batch(found.connection, database.sql, submission, made, slice_size, allowed)
        )


def _tolerated_errors(request: SubmitRequest) -> tuple[type[BatchmillError], ...]:
    """After which errors of the source what was read so far is a batch, with one failed job for what was not.

    Under a key the same submission goes on once the source answers again.
    """
    if not request.keep_invalid:
        return ()
    return (UnreadableSource,) if request.idempotency_key is not None else (UnreadableSource, Unreachable)


def _can_stream(request: SubmitRequest, submission: OpenSubmission) -> bool:
    """Whether the batch can be worked on while it is read in: no row can refuse it, nor waits for the others."""
    # What was begun without, by an earlier version, has no slices yet.
    return request.keep_invalid and not request.reuse and (submission.ingesting or submission.rows_read == 0)


def _insert_jobs(
    database: Database,
    submission: OpenSubmission,
    writer: JobWriter,
    resume_check: ResumeCheck,
    on_progress: OnProgress,
    on_slices_queued: Callable[[], object] | None = None,
) -> tuple[int, int]:
    """Insert every job that is not in; returns how many there are, and how many of them have failed already."""
    jobs = 0
    with (
        HeartbeatThread(lambda: open_submission.heartbeat(database, submission), open_submission.HEARTBEAT_SECONDS),
        writer,
    ):
        for chunk in resume_check.chunks():
            if chunk.end_position <= submission.rows_read:
                writer.skip(chunk)
            else:
                writer.write(chunk, resume_check.rows_digest)
                if chunk.is_cut:  # a slow source: what there is does not wait for more
                    writer.flush()
                if on_slices_queued is not None and writer.chunks_written:
                    on_slices_queued()
            jobs = chunk.end_position
            on_progress(jobs)
        writer.flush()
    return jobs, writer.failed


def _accept_batch(
    connection: Connection,
    sql: SqlFragments,
    submission: OpenSubmission,
    result: SubmitResult,
    slice_size: int,
    max_failures: int | None,
) -> list[int]:
    """Set a batch going inside a transaction that is there already; returns its slices."""
    reused = result.reused or 0
    answered = result.failed + reused
    named = {
        **_holder_params(submission),
        "jobs": result.jobs,
        "failed": result.failed,
        "reused": reused,
        "answered": answered,
        "ended": answered == result.jobs,
        "max_failures": max_failures,
    }
    if connection.execute(text(ACCEPT_BATCH.format(now=sql.now)), named).rowcount == 0:
        raise lost_ownership_error(connection, submission)
    if answered < result.jobs:
        _insert_slices(connection, result, slice_size)
    if max_failures is not None and result.failed > max_failures:
        message = (
            f"{result.failed:,} jobs failed already as invalid, more than the {max_failures:,} that this batch allows"
        )
        termination.begin_termination(
            connection, sql, submission.batch_id, Termination.FAILURE_LIMIT, termination.TOO_MANY_FAILURES, message
        )
        termination.close_chunk(connection, sql, submission.batch_id)
    return list(slices.queued_slice_ids(connection, submission.batch_id))


def _insert_slices(connection: Connection, result: SubmitResult, slice_size: int) -> None:
    # Few jobs have failed already, and a slice passes over them; of what was reused little may be left in between.
    whole = ((first, min(slice_size, result.jobs - first)) for first in range(0, result.jobs, slice_size))
    some = (
        retry.plan_slices(positions, slice_size)
        for positions in reuse.unanswered_positions(connection, result.batch_id)
    )
    for pieces in some if result.reused else (whole,):
        slices.insert_slices(connection, result.batch_id, pieces)


def _delete_batch(database: Database, submission: OpenSubmission) -> None:
    named = _holder_params(submission)
    # When the connection broke while accepting, the batch may have been accepted all the same.
    if database.transact(lambda connection: connection.execute(text(RELEASE_KEY), named).rowcount) == 0:
        return
    _delete_jobs(database, submission)
    database.transact(lambda connection: connection.execute(text(DELETE_BATCH), named))


def delete_ingested_rows(database: Database, submission: OpenSubmission) -> None:
    """Delete what a submitter before this one got in."""
    _delete_jobs(database, submission)

    def work(connection: Connection) -> None:
        if not _lock_if_held(connection, database.sql, submission):
            raise lost_ownership_error(connection, submission)
        for table in ("results", "jobs"):
            connection.execute(text(f"DELETE FROM {table} WHERE batch_id = :batch_id"), _holder_params(submission))  # noqa: S608

    database.transact(work)


def _delete_jobs(database: Database, submission: OpenSubmission) -> None:
    """All but the last ones, in chunks, while the batch is ours and `validating`."""
    named = _holder_params(submission)
    with database.read() as connection:
        last = connection.scalar(text(SELECT_LAST_POSITION), named) or 0
    query = text("DELETE FROM jobs WHERE batch_id = :batch_id AND position < :end")

    def delete(connection: Connection, end: int) -> bool:
        is_ours = _lock_if_held(connection, database.sql, submission)
        if is_ours:
            connection.execute(query, {**named, "end": end})
        return is_ours

    for end in range(DELETE_CHUNK_JOBS, last + 1, DELETE_CHUNK_JOBS):
        if not database.transact(partial(delete, end=end)):
            return


def _lock_if_held(connection: Connection, sql: SqlFragments, submission: OpenSubmission) -> bool:
    """Whether the batch is still read in by this submitter; then its row is locked."""
    query = text(LOCK_BATCH_IF_HOLDER.format(for_update=sql.for_update))
    return connection.execute(query, _holder_params(submission)).one_or_none() is not None


def _holder_params(submission: OpenSubmission) -> dict[str, str]:
    return {"batch_id": submission.batch_id, "submitter": submission.holder_id}
