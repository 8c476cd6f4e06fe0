"""An open submission is a batch that one process reads rows into; this module creates, resumes and takes over such.

The submitter holds its batch by its holder id, as a worker holds a slice by its fencing token. Each chunk is written
only while the batch's row names that holder, so a slow submitter can't write to a batch that was taken over.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, text
from sqlalchemy.exc import IntegrityError

from models.db import Database
from models.dialects.columns import Document
from models.dialects.fragments import SqlFragments
from models.errors import BatchmillError, IdempotencyConflict, IdempotencyKeyInUse, NotFound
from models.lifecycle import guard_counters
from models.processes import holders
from models.processes.holders import ProcessLease
from models.states import BatchStatus
from models.tables.batches import Batch
from producer.advice import LIST_BATCHES, see_batch, wait_until_ended
from producer.submission.identity.batch_ids import new_batch_id
from producer.submission.identity.cache_key import output_cache_key
from producer.submission.identity.fingerprint import describe_difference, request_fingerprint
from producer.submission.request import SubmitRequest
from producer.tenants import job_cap

HOLDER_TIMEOUT_SECONDS = 6.0  # without a heartbeat, until a submitter elsewhere is considered gone
HEARTBEAT_SECONDS = HOLDER_TIMEOUT_SECONDS / 3  # two may be late


SET_DEADLINE = "UPDATE batches SET expires_at = {expires_at} WHERE id = :batch_id"

SELECT_BATCH_BY_KEY = """
SELECT id, status, pipeline, parameters, name, metadata, priority, request_fingerprint, rows_read, rows_digest,
       holder_id, in_progress_at, holder_heartbeat_at, ingesting,
       CASE WHEN coalesce(holder_heartbeat_at, created_at) <= {later} THEN 1 ELSE 0 END AS silent,
       CASE WHEN status = 'validating' OR ingesting
            THEN (SELECT count(*) FROM results r WHERE r.batch_id = b.id AND r.status = 'failed' AND r.slice_id IS NULL)
            ELSE 0 END AS failed
FROM batches b WHERE tenant = :tenant AND idempotency_key = :key
"""

IS_OPEN = "(status = 'validating' OR (status = 'in_progress' AND ingesting))"

TAKE_OVER_BATCH = f"""
UPDATE batches SET holder_id = :holder_id, holder_heartbeat_at = {{now}}
WHERE id = :batch_id AND {IS_OPEN} AND holder_id = :previous_holder_id AND rows_read = :rows_read
  AND idempotency_key IS NOT NULL
"""  # noqa: S608

RESTART_BATCH = """
UPDATE batches SET holder_id = :holder_id, holder_heartbeat_at = {now}, rows_read = 0, rows_digest = NULL
WHERE id = :batch_id AND status = 'validating'
"""

RECORD_HEARTBEAT = f"""
UPDATE batches SET holder_heartbeat_at = {{now}} WHERE id = :batch_id AND {IS_OPEN} AND holder_id = :holder_id
"""  # noqa: S608

SELECT_TENANT = "SELECT tenant FROM batches WHERE id = :batch_id"

LOCK_BATCH_IF_HOLDER = (
    "SELECT 1 FROM batches WHERE id = :batch_id AND status = 'validating' AND holder_id = :holder_id {for_update}"
)

SELECT_HOLDER = "SELECT holder_id, in_progress_at FROM batches WHERE id = :batch_id"


@dataclass(frozen=True, slots=True)
class OpenSubmission:
    """A batch's row, its holder's id, and how much of its source the database has."""

    batch_id: str
    holder_id: str
    idempotency_key: str | None = None
    status: BatchStatus = BatchStatus.VALIDATING
    rows_read: int = 0
    rows_digest: str | None = None  # hash of the rows that the database has
    failed: int = 0  # invalid rows among them
    has_all_rows: bool = False  # accepted with all its rows, rather than ended while ingesting
    ingesting: bool = False  # streamed: claimed already, while more rows are read
    recorded_parameters: Mapping[str, Any] | None = None  # of a batch that was there before

    @property
    def is_open(self) -> bool:
        """Whether the batch takes more rows."""
        return self.status is BatchStatus.VALIDATING or (self.status is BatchStatus.IN_PROGRESS and self.ingesting)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of a statement that only the holder may execute."""
        return {"batch_id": self.batch_id, "holder_id": self.holder_id}


def open_or_resume(
    database: Database, request: SubmitRequest, sleep: Callable[[float], None] = time.sleep
) -> OpenSubmission:
    """Create a batch, or resume the one that has the request's idempotency key.

    Raises IdempotencyConflict where that batch was requested differently, IdempotencyKeyInUse while another process
    ingests it, and UsageError if the deadline of a new batch has passed.
    """
    while True:
        row = None if request.idempotency_key is None else _find_by_key(database, request)
        submission = _try_create(database, request) if row is None else _try_resume(database, request, row, sleep)
        if submission is not None:
            return submission


def insert_batch(
    connection: Connection,
    sql: SqlFragments,
    request: SubmitRequest,
    submission: OpenSubmission,
    more_values: Mapping[str, Any] | None = None,
) -> None:
    """Insert a batch's row, and the guards that its jobs must pass: those that its pipeline has at this moment.

    more_values: of further columns

    With an empty holder id, the process that takes the batch over sets its own. Raises NotFound if its inputs are
    results of another tenant, and TooManyJobs if its tenant may have no more jobs.
    """
    job_cap.check_room(connection, request.tenant, request.max_unanswered_jobs, 1)
    _check_source(connection, request)
    pipeline = request.pipeline
    row = {
        "id": submission.batch_id,
        "name": request.name,
        "pipeline": pipeline.name,
        "task": pipeline.task,
        "model": pipeline.model,
        "revision": pipeline.pinned_revision,
        "parameters": request.parameters,
        "metadata": request.metadata,
        "priority": request.priority,
        "max_attempts": pipeline.max_attempts,
        "status": BatchStatus.VALIDATING.value,
        "holder_id": submission.holder_id or None,
        "idempotency_key": submission.idempotency_key,
        "request_fingerprint": None if submission.idempotency_key is None else request_fingerprint(request),
        "output_cache_key": output_cache_key(pipeline, request.parameters),
        "source_batch_id": request.source_batch_id,
        "tenant": request.tenant,
        "webhook_url": request.webhook_url,
        **(more_values or {}),
    }
    connection.execute(insert(Batch.__table__).values(row))  # type: ignore[arg-type]
    guard_counters.insert_guards(connection, submission.batch_id, pipeline.guards)
    if request.deadline is not None:
        statement = request.deadline.bind(SET_DEADLINE, sql.now_plus_seconds, batch_id=submission.batch_id)
        connection.execute(*statement)


def _check_source(connection: Connection, request: SubmitRequest) -> None:
    if request.source_batch_id is None:
        return
    tenant = connection.scalar(text(SELECT_TENANT), {"batch_id": request.source_batch_id})
    if tenant not in (None, request.tenant):  # None: it was deleted while its results were read
        raise NotFound(f"there is no batch {request.source_batch_id[:80]!r}; " + LIST_BATCHES)


def take_over_from_start(connection: Connection, sql: SqlFragments, batch_id: str) -> OpenSubmission | None:
    """Take over a batch to read it from its first row; None where it has all rows already, or was deleted.

    The caller's transaction ensures that the previous holder has stopped. The rows which that one inserted remain.
    """
    submission = OpenSubmission(batch_id, holders.new_holder_id())
    restarted = connection.execute(text(RESTART_BATCH.format(now=sql.now)), submission.params).rowcount
    return submission if restarted else None


def lease_of(database: Database, submission: OpenSubmission) -> ProcessLease:
    """The submitter's lease on its batch."""
    renewal = text(RECORD_HEARTBEAT.format(now=database.sql.now))
    return ProcessLease(database, renewal, submission.params, HEARTBEAT_SECONDS)


def lock_if_held(connection: Connection, sql: SqlFragments, submission: OpenSubmission) -> bool:
    """Lock the batch's row if the batch is `validating` and held by this submitter; returns whether it is."""
    query = text(LOCK_BATCH_IF_HOLDER.format(for_update=sql.for_update))
    return connection.execute(query, submission.params).one_or_none() is not None


def lost_ownership_error(connection: Connection, submission: OpenSubmission) -> BatchmillError:
    """The error of a batch that was deleted, ended or taken over by another process."""
    row = connection.execute(text(SELECT_HOLDER), submission.params).one_or_none()
    if row is not None and row.holder_id != submission.holder_id:
        return _key_in_use_error(submission.batch_id)
    if row is not None and row.in_progress_at is not None:
        return BatchmillError(f"{submission.batch_id} ended while it was read in; " + see_batch(submission.batch_id))
    return gone_error(submission.batch_id)


def gone_error(batch_id: str) -> BatchmillError:
    """The error of a batch that was deleted, or takes no more rows."""
    return BatchmillError(f"{batch_id} was removed or ended while it was being submitted; submit it again")


def _find_by_key(database: Database, request: SubmitRequest) -> Row[Any] | None:
    query = text(SELECT_BATCH_BY_KEY.format(later=database.sql.now_plus_seconds)).columns(
        parameters=Document, metadata=Document
    )
    params = {"tenant": request.tenant, "key": request.idempotency_key, "seconds": -HOLDER_TIMEOUT_SECONDS}
    with database.read() as connection:
        return connection.execute(query, params).one_or_none()


def _try_create(database: Database, request: SubmitRequest) -> OpenSubmission | None:
    """A new batch; None if another process created one under the same key at the same time.

    Raises UsageError if its deadline has passed.
    """
    if request.deadline is not None:
        request.deadline.check_future()
    submission = OpenSubmission(new_batch_id(), holders.new_holder_id(), request.idempotency_key)
    try:
        with database.write() as connection:
            insert_batch(connection, database.sql, request, submission)
    except IntegrityError:
        if submission.idempotency_key is None:
            raise
        return None
    return submission


def _try_resume(
    database: Database, request: SubmitRequest, row: Row[Any], sleep: Callable[[float], None]
) -> OpenSubmission | None:
    """The batch of this row, taken over if it takes more rows; None if the row changed, and must be read again."""
    if row.request_fingerprint != request_fingerprint(request):
        raise IdempotencyConflict(describe_difference(request, row))
    _check_fields(request, row)
    submission = OpenSubmission(
        row.id,
        holders.new_holder_id(),
        request.idempotency_key,
        BatchStatus(row.status),
        row.rows_read,
        row.rows_digest,
        row.failed,
        has_all_rows=row.in_progress_at is not None and not row.ingesting,
        ingesting=bool(row.ingesting),
        recorded_parameters=row.parameters,
    )
    if not submission.is_open:
        return submission
    is_gone = row.silent or holders.is_holder_gone(row.holder_id)
    if not is_gone and not _holder_stays_silent(database, row, request, sleep):
        return None
    params = {**submission.params, "previous_holder_id": row.holder_id, "rows_read": row.rows_read}
    with database.write() as connection:
        taken_over = connection.execute(text(TAKE_OVER_BATCH.format(now=database.sql.now)), params).rowcount
        if taken_over:  # the operator may have added guards since
            guard_counters.insert_guards(connection, submission.batch_id, request.pipeline.guards)
    return submission if taken_over else None


def _check_fields(request: SubmitRequest, row: Row[Any]) -> None:
    """Raise IdempotencyConflict if the batch's templates name other fields, because the source was read for these."""
    recorded = request.pipeline.with_templates(row.parameters)
    if recorded.spec.field_names != request.pipeline.spec.field_names:
        raise IdempotencyConflict(
            f"the idempotency key {request.idempotency_key!r} belongs to {row.id}, whose prompt names other fields: "
            f"{recorded.spec.field_names}; use another key"
        )


def _holder_stays_silent(
    database: Database, row: Row[Any], request: SubmitRequest, sleep: Callable[[float], None]
) -> bool:
    """Wait for the holder's timeout; returns False if the batch changed, and raises IdempotencyKeyInUse on a heartbeat.

    The wait is by our own clock, because the database's may have stepped back.
    """
    sleep(HOLDER_TIMEOUT_SECONDS)
    current = _find_by_key(database, request)
    if current is None or not (current.status == BatchStatus.VALIDATING or current.ingesting):
        return False
    if current.holder_heartbeat_at != row.holder_heartbeat_at:
        raise _key_in_use_error(row.id)
    return bool(current.id == row.id and current.holder_id == row.holder_id)


def _key_in_use_error(batch_id: str) -> IdempotencyKeyInUse:
    return IdempotencyKeyInUse(
        f"another process submits {batch_id} under this idempotency key; " + wait_until_ended(batch_id)
    )
