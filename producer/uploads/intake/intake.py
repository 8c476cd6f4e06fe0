"""Intake reads a batch's file into jobs, and accepts or fails the batch.

It runs in the request that opened the batch, in a process that a server keeps, or in one that a worker's maintenance
starts. After a kill another process goes on behind the rows that are there, because a stored file never
changes. A query or another batch's results may change, so those are read again from their start.
"""

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, partial
from typing import Any

import structlog
from sqlalchemy import Connection, Row, text

from models.db import Database
from models.errors import (
    BatchmillError,
    FileStoreUnavailable,
    InvalidRows,
    MissingSource,
    SettingsError,
    SourceNotReady,
    TooManyJobs,
    UnknownPipeline,
    Unreachable,
    UsageError,
)
from models.lifecycle import due_intakes, guard_counters
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.processes import holders
from models.processes.failpoints import failpoint
from models.settings import Settings, file_store_ids
from producer.advice import Door, message_of
from producer.readers.limits import Limits
from producer.readers.rows import Source
from producer.submission import discard, open_submission, submit
from producer.submission.ingestion import SubmitResult
from producer.submission.open_submission import OpenSubmission
from producer.submission.request import SubmitRequest
from producer.uploads.intake import failing, sources, takeover
from producer.uploads.intake.failing import MAX_INPUT_ERRORS
from producer.uploads.intake.read_request import ReadRequest
from producer.uploads.storage.store import FileStore, open_store

log = structlog.get_logger(__name__)

MAX_OPEN_BATCHES = 1_000  # looked at in one round


class Outcome(StrEnum):
    """What became of a batch that was to be read."""

    ACCEPTED = "accepted"
    FAILED = "failed"
    NOT_HERE = "not here"  # this machine lacks the file or the pipeline; another may have it
    LOST = "lost"  # it ended, or another process reads it
    POSTPONED = "postponed"  # the file or a database can't be reached now; it waits for another try


@dataclass(frozen=True, slots=True)
class WaitingBatch:
    """A batch whose rows are not all read, and that nobody reads now.

    is_tenant_served: another batch of its tenant is being read
    """

    id: str
    location: str | None
    size_bytes: int
    is_tenant_served: bool = False


@dataclass(frozen=True)
class Intake:
    """Reads batches on this machine.

    notify: wakes workers for slices of a pipeline; None = tries again after each failure
    """

    database: Database
    settings: Settings
    catalogue: Catalogue
    notify: submit.NotifyWorkers | None = None

    @cached_property
    def store(self) -> FileStore:
        """The file store of the settings."""
        return open_store(self.settings)

    @cached_property
    def notify_workers(self) -> submit.NotifyWorkers:
        """Wakes workers for slices of a pipeline; returns a sentence if that fails."""
        return self.notify or partial(submit.notify_workers, self.settings)

    def waiting_batches(self) -> list[WaitingBatch]:
        """The batches that can be taken in now: each tenant's in turn, and its small files first."""
        sql = self.database.sql
        query = text(due_intakes.SELECT_OPEN.format(now=sql.now, later=sql.now_plus_seconds))
        params = {
            "seconds": -due_intakes.SILENT_SECONDS,
            "locations": file_store_ids.location_pattern(self.settings),
            "most": MAX_OPEN_BATCHES,
        }
        with self.database.read() as connection:
            rows = connection.execute(query, params).all()
        return [
            WaitingBatch(row.id, row.location, row.size_bytes, bool(row.held))
            for row in rows
            if row.holder_id is None or row.silent or holders.is_holder_gone(row.holder_id)
        ]

    def take_in(self, batch_id: str, submission: OpenSubmission | None = None) -> Outcome:
        """Read one batch's rows; returns what became of it.

        submission: held by this process already; None = the batch is taken over, unless somebody else reads it
        """
        try:
            return self._take_in(batch_id, submission)
        except (Unreachable, FileStoreUnavailable, SourceNotReady) as error:  # perhaps only a query's database
            log.warning("intake.postponed", batch_id=batch_id, error=str(error))
            return Outcome.POSTPONED

    def _take_in(self, batch_id: str, submission: OpenSubmission | None) -> Outcome:
        row = takeover.find_open(self.database, batch_id)
        if row is None:
            return Outcome.LOST
        read_request = ReadRequest.from_document(row.read_request)
        if read_request.needs_file and row.location is not None and not self.store.has(row.location):
            return Outcome.NOT_HERE
        try:
            pipeline = self.catalogue[row.pipeline].with_templates(row.parameters)
        except (UnknownPipeline, SettingsError):
            return Outcome.NOT_HERE
        submission = submission or takeover.take_over(self.database, row)
        if submission is None:
            return Outcome.LOST
        try:
            with open_submission.lease_of(self.database, submission).heartbeat_thread():
                return _Reading(self, row, read_request, submission).run(pipeline)
        except (Unreachable, FileStoreUnavailable, SourceNotReady) as error:
            with suppress(BatchmillError):  # else the others wait until this process is silent
                takeover.postpone(self.database, row, submission, error)
            raise
        except BatchmillError as error:  # it was cancelled meanwhile, or another process took over
            log.info("intake.lost", batch_id=batch_id, error=str(error))
            return Outcome.LOST


@dataclass(frozen=True, slots=True)
class _Reading:
    """One try to read one batch."""

    intake: Intake
    row: Row[Any]
    read_request: ReadRequest
    submission: OpenSubmission

    def run(self, pipeline: Pipeline) -> Outcome:
        """Read the rows, and accept or fail the batch."""
        database = self.intake.database
        failpoint("before_intake")
        try:
            result = self._submit_rows(pipeline)
        except (UsageError, TooManyJobs) as error:
            log.info("intake.failed", batch_id=self.row.id, code=error.code)
            failing.fail_batch(database, self.submission, error.code, *_describe(error, self.read_request.door))
            return Outcome.FAILED
        except (BatchmillError, OSError, MemoryError):
            raise
        except Exception as error:
            # A defect, whose message may quote a row; the next try would end in the same way.
            log.error("intake.defect", batch_id=self.row.id, error_type=type(error).__name__)
            message = f"a defect in Batchmill ({type(error).__name__}) ended the reading of its rows"
            failing.fail_batch(database, self.submission, "internal_error", message)
            return Outcome.FAILED
        failpoint("after_intake")
        takeover.forget_read_request(database, self.row.id)
        log.info("intake.accepted", batch_id=self.row.id, jobs=result.jobs)
        if result.slices:
            self.intake.notify_workers(result.pipeline, result.slices)
        return Outcome.ACCEPTED

    def _submit_rows(self, pipeline: Pipeline) -> SubmitResult:
        database, settings = self.intake.database, self.intake.settings
        self._record_guards(pipeline)
        submission = self.submission
        if not self.read_request.needs_file and submission.rows_read:
            submission = discard.restart(database, submission)
        if submission.rows_read == 0:  # also what is left of a deletion that was cut off
            discard.delete_ingested_rows(database, submission)
        with self._open_source(pipeline) as source:
            return submit.resume_into(
                database,
                settings.slice_size,
                self._request(pipeline),
                submission,
                source,
                streams=self.read_request.needs_file,
                max_problems=MAX_INPUT_ERRORS,
                on_slices_queued=submit.WakeupSender(self.intake.notify_workers),
            )

    def _open_source(self, pipeline: Pipeline) -> AbstractContextManager[Source]:
        settings = self.intake.settings
        if not self.read_request.needs_file:
            return sources.open_other(settings, pipeline, self.read_request)
        location, file_id = self.row.location, self.row.input_file_id
        if location is None:
            raise MissingSource(f"{file_id} has no bytes that a batch can read; upload the rows as a file")
        self.intake.store.check_whole(location, self.row.bytes or 0)
        return sources.open_file(
            Limits.from_settings(settings), self.intake.store, location, file_id, pipeline, self.read_request
        )

    def _request(self, pipeline: Pipeline) -> SubmitRequest:
        """The request as it was recorded; the deadline is in the batch's row already."""
        row, read_request = self.row, self.read_request
        return SubmitRequest(
            pipeline,
            dict(row.parameters),
            row.name,
            row.metadata,
            row.priority,
            read_request.keep_invalid,
            max_failures=read_request.failure_limit,
            reuse=read_request.reuse,
            source_batch_id=row.source_batch_id,
            tenant=row.tenant,
            max_unanswered_jobs=self.intake.settings.unanswered_jobs_cap(row.tenant),
            webhook_url=row.webhook_url,
        )

    def _record_guards(self, pipeline: Pipeline) -> None:
        """Record the guards that the operator has added since the batch was opened."""
        database = self.intake.database

        def work(connection: Connection) -> None:
            if open_submission.lock_if_held(connection, database.sql, self.submission):
                guard_counters.insert_guards(connection, self.row.id, pipeline.guards)

        if pipeline.guards:
            database.transact(work)


def take_in_waiting(intake: Intake, max_bytes: int | None = None, *, unserved_tenants: bool = False) -> int:
    """Take in batches until none waits that can be read here; returns the number of those accepted or failed.

    max_bytes: leave larger files to another process
    unserved_tenants: leave the batches of tenants one of whose batches is being read
    """
    tried: set[str] = set()
    finished = 0
    while True:
        candidates = (
            batch
            for batch in intake.waiting_batches()
            if batch.id not in tried
            and (max_bytes is None or batch.size_bytes <= max_bytes)
            and not (unserved_tenants and batch.is_tenant_served)
        )
        batch = next(candidates, None)
        if batch is None:
            return finished
        tried.add(batch.id)
        finished += intake.take_in(batch.id) in (Outcome.ACCEPTED, Outcome.FAILED)


def _describe(error: BatchmillError, door: Door) -> tuple[str, list[dict[str, Any]]]:
    """A message for the batch, and its errors by line, as an OpenAI client reads them."""
    if not isinstance(error, InvalidRows) or not error.rows:
        message = message_of(error, door)
        return message, [failing.input_error(error.code, message)]
    more = " (and perhaps more)" if len(error.rows) >= MAX_INPUT_ERRORS else ""
    message = (
        f"{len(error.rows)} rows{more} can't be jobs, and nothing was submitted; mend them, the first: "
        f"{error.problems[0]}"
    )
    return message, [failing.input_error(code, text, location, param) for location, code, text, param in error.rows]
