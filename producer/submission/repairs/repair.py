"""Repairing puts corrected rows in the places of jobs that failed, and runs them in the same batch.

All rows are read and checked first, and staged in a temporary file in the order of their positions. Only then are the
jobs replaced and requeued, as a retry does it. Jobs are otherwise insert-only; only a job that failed can be replaced.
"""

from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.dialects.fragments import comma_separated
from models.errors import UsageError
from models.pipelines.options.prompt_template import find_batch_spec
from models.states import JobOutcome
from producer.advice import wait_until_ended
from producer.batches import views
from producer.batches.actions.requeue import Requeue, check_ended
from producer.batches.actions.retry import RetryResult
from producer.readers.rows import Source
from producer.submission.chunks import JobChunker
from producer.submission.job_writer import JOB_COLUMNS, ORIGIN_COLUMNS
from producer.submission.repairs.job_matcher import JobMatcher
from producer.submission.repairs.repaired_jobs import RepairedJob, StagedJobs
from producer.tenants.job_cap import CapOf, no_cap
from producer.times import Deadline

COUNT_FAILED = "SELECT count(*) FROM results WHERE batch_id = :batch_id AND status = 'failed' AND position {in_numbers}"

DELETE_JOBS = "DELETE FROM jobs WHERE batch_id = :batch_id AND position {in_numbers}"

# Otherwise the remaining failures would end the batch at its first result.
RAISE_FAILURE_LIMIT = """
UPDATE batches SET max_failures = max_failures + failed - :repaired WHERE id = :batch_id AND failed > max_failures
"""


def repair_jobs(
    database: Database,
    batch_id: str,
    source: Source,
    slice_size: int,
    deadline: Deadline | None = None,
    cap_of: CapOf = no_cap,
) -> RetryResult:
    """Replace failed jobs of an ended batch by the rows of a source, which `RepairColumns` maps, and requeue them.

    slice_size: jobs per slice
    deadline: the batch's new deadline; None keeps the old one, unless it has passed
    cap_of: returns the most unanswered jobs that a tenant may have

    Rows that were put in their places before are passed over, so an interrupted repair can be repeated.

    Raises InvalidRows naming the rows that can't be jobs or name no failed job; then nothing has changed. Raises
    NotFound, UsageError when the batch has not ended or is changed by others meanwhile, and TooManyJobs when its tenant
    may have no more; the rows before are in their places then.
    """
    batch = views.get_batch(database, batch_id)
    check_ended(batch)
    chunker = JobChunker(find_batch_spec(batch.task, batch.parameters), source, batch.parameters)
    with StagedJobs() as staged:
        matcher = JobMatcher(database, batch_id, chunker, staged)
        for chunk in chunker.chunks():
            matcher.stage(chunk)
        requeue = _Repair(Requeue(database, batch, slice_size, deadline, cap_of), staged.count()).replace_chunk
        jobs, slice_count = 0, 0
        for repaired in staged.chunks():
            slice_count += database.transact(partial(requeue, jobs=repaired, is_continuation=jobs > 0))
            jobs += len(repaired)
    return RetryResult(batch_id, batch.pipeline, jobs, slice_count)


@dataclass(frozen=True, slots=True)
class _Repair:
    """One call of `repair_jobs`, chunk by chunk."""

    requeue: Requeue
    repaired: int

    def replace_chunk(self, connection: Connection, *, jobs: list[RepairedJob], is_continuation: bool) -> int:
        """Replace and requeue some jobs; returns the number of their slices."""
        requeue, sql = self.requeue, self.requeue.database.sql
        requeue.lock_and_check(connection, is_continuation=is_continuation)
        positions = [job.position for job in jobs]
        params = {"batch_id": requeue.batch_id, "numbers": comma_separated(positions)}
        failed = connection.scalar(text(COUNT_FAILED.format(in_numbers=sql.in_numbers)), params)
        if failed != len(jobs):
            raise self._changed_error()
        if not is_continuation:
            connection.execute(text(RAISE_FAILURE_LIMIT), {"batch_id": requeue.batch_id, "repaired": self.repaired})
        slice_count = requeue.requeue(connection, positions, {JobOutcome.FAILED.value: len(jobs)})
        connection.execute(text(DELETE_JOBS.format(in_numbers=sql.in_numbers)), params)
        try:
            columns = (*JOB_COLUMNS, *ORIGIN_COLUMNS)
            insert_rows(connection, "jobs", columns, ((requeue.batch_id, *job) for job in jobs))
        except IntegrityError as error:
            raise self._changed_error() from error
        return slice_count

    def _changed_error(self) -> UsageError:
        batch_id = self.requeue.batch_id
        return UsageError(f"another process changes {batch_id}; " + wait_until_ended(batch_id))
