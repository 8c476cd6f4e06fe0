"""Entries: a batch's row in the hands of whoever submits it, made anew, found under its idempotency key or taken over.

A submitter holds its batch by a token, as a worker holds a slice: each chunk is written only where the row still names
it. So a submitter that was taken for dead, and is not, loses; it can't write beside the other.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, text
from sqlalchemy.exc import IntegrityError

from models.columns import Document
from models.db import Database, SqlFragments
from models.documents import to_json
from models.errors import BatchmillError, IdempotencyConflict, IdempotencyKeyInUse
from models.states import BatchStatus
from models.tables import Batch
from producer.submission import holders
from producer.submission.cache_key import output_cache_key
from producer.submission.ids import new_batch_id
from producer.submission.request import SubmitRequest

HOLDER_TIMEOUT_SECONDS = 6.0  # without news, until a submitter of which nothing else is known is taken for dead
HEARTBEAT_SECONDS = HOLDER_TIMEOUT_SECONDS / 3  # two may be late

SET_DEADLINE = "UPDATE batches SET expires_at = {expires_at} WHERE id = :batch_id"

SELECT_BATCH_BY_KEY = """
SELECT id, status, pipeline, parameters, name, metadata, priority, fingerprint, read_jobs, read_digest, submitter,
       in_progress_at, heard_at, reading,
       CASE WHEN coalesce(heard_at, created_at) <= {later} THEN 1 ELSE 0 END AS silent,
       CASE WHEN status = 'validating' OR reading
            THEN (SELECT count(*) FROM results r WHERE r.batch_id = b.id AND r.status = 'failed' AND r.slice_id IS NULL)
            ELSE 0 END AS failed
FROM batches b WHERE idempotency_key = :key
"""

TAKE_OVER_BATCH = """
UPDATE batches SET submitter = :submitter, heard_at = {now}
WHERE id = :batch_id AND (status = 'validating' OR (status = 'in_progress' AND reading))
  AND submitter = :before AND read_jobs = :read_jobs AND idempotency_key IS NOT NULL
"""

RESTART_BATCH = """
UPDATE batches SET submitter = :submitter, heard_at = {now}, read_jobs = 0, read_digest = NULL
WHERE id = :batch_id AND status = 'validating'
"""

RECORD_HEARTBEAT = """
UPDATE batches SET heard_at = {now}
WHERE id = :batch_id AND (status = 'validating' OR (status = 'in_progress' AND reading)) AND submitter = :submitter
"""

SELECT_HOLDER = "SELECT submitter, in_progress_at FROM batches WHERE id = :batch_id"

COMPARABLE_FIELDS = (
    "pipeline",
    "parameters",
    "name",
    "metadata",
    "priority",
)  # what of a request a sentence can compare


@dataclass(frozen=True, slots=True)
class OpenSubmission:
    """A batch's row: the token that it is held by, and what of its source is in already."""

    batch_id: str
    holder_id: str
    idempotency_key: str | None = None
    status: BatchStatus = BatchStatus.VALIDATING
    rows_read: int = 0
    rows_digest: str | None = None  # of the rows that are in
    failed: int = 0  # of them, as invalid
    has_all_rows: bool = False  # accepted with all its rows, rather than ended while it was read in
    ingesting: bool = False  # worked on already, while more is read in

    @property
    def is_open(self) -> bool:
        """Whether it can be read into."""
        return self.status is BatchStatus.VALIDATING or (self.status is BatchStatus.IN_PROGRESS and self.ingesting)


def open_or_resume(
    database: Database, request: SubmitRequest, sleep: Callable[[float], None] = time.sleep
) -> OpenSubmission:
    """A batch to read into: a new one, or the one that has the request's idempotency key.

    Raises KeyConflict where that one was asked to be something else, and KeyBusy while somebody else reads into it.
    """
    while True:
        found = None if request.idempotency_key is None else _find_by_key(database, request.idempotency_key)
        entry = _try_create(database, request) if found is None else _try_resume(database, request, found, sleep)
        if entry is not None:
            return entry


def insert_batch(connection: Connection, sql: SqlFragments, request: SubmitRequest, submission: OpenSubmission) -> None:
    """The row of a batch to be read into; an entry without a submitter leaves that to whoever takes it over."""
    pipeline = request.pipeline
    row = {
        "id": submission.batch_id,
        "name": request.name,
        "pipeline": pipeline.name,
        "task": pipeline.task,
        "model": pipeline.model,
        "revision": pipeline.revision,
        "parameters": request.parameters,
        "metadata": request.metadata,
        "priority": request.priority,
        "max_attempts": pipeline.max_attempts,
        "status": BatchStatus.VALIDATING.value,
        "submitter": submission.holder_id or None,
        "idempotency_key": submission.idempotency_key,
        "fingerprint": None if submission.idempotency_key is None else request_fingerprint(request),
        "recipe": output_cache_key(pipeline, request.parameters),
    }
    connection.execute(insert(Batch.__table__).values(row))  # type: ignore[arg-type]
    if request.deadline is not None:
        setting = request.deadline.bind(SET_DEADLINE, sql.now_plus_seconds, batch_id=submission.batch_id)
        connection.execute(*setting)


def take_over_from_start(connection: Connection, sql: SqlFragments, batch_id: str) -> OpenSubmission | None:
    """A batch to read into from its beginning, taken from whoever had it; None where it is read in already, or gone.

    In the caller's transaction, which sees to it that the one who had it is at it no more: what that one got in is
    there still.
    """
    entry = OpenSubmission(batch_id, holders.new_holder_id())
    named = {"batch_id": batch_id, "submitter": entry.holder_id}
    return entry if connection.execute(text(RESTART_BATCH.format(now=sql.now)), named).rowcount else None


def heartbeat(database: Database, submission: OpenSubmission) -> bool:
    """Say that the submitter is there; returns whether the batch is still its own. Raises Unreachable."""
    named = {"batch_id": submission.batch_id, "submitter": submission.holder_id}
    with database.write() as connection:
        return connection.execute(text(RECORD_HEARTBEAT.format(now=database.sql.now)), named).rowcount == 1


def lost_ownership_error(connection: Connection, submission: OpenSubmission) -> BatchmillError:
    """The error of a batch that somebody deleted, ended or took over under our hands."""
    row = connection.execute(text(SELECT_HOLDER), {"batch_id": submission.batch_id}).one_or_none()
    if row is not None and row.submitter != submission.holder_id:
        return _key_in_use_error(submission.batch_id)
    if row is not None and row.in_progress_at is not None:
        return BatchmillError(
            f"{submission.batch_id} ended while it was read in; see: batchmill show {submission.batch_id}"
        )
    return gone_error(submission.batch_id)


def gone_error(batch_id: str) -> BatchmillError:
    """The error of a batch that is gone, or that reads no more."""
    return BatchmillError(f"{batch_id} was removed or ended while it was being submitted; submit it again")


def request_fingerprint(request: SubmitRequest) -> str:
    """A hash of all that a batch was asked to be, but its rows."""
    deadline = request.deadline and [request.deadline.seconds, str(request.deadline.expires_at)]
    failures = request.max_failures and [request.max_failures.count, request.max_failures.share]
    asked = [*_comparable_values(request).values(), request.keep_invalid, deadline, failures]
    if request.reuse:  # as it was before there was this
        asked.append("reuse")
    return hashlib.sha256(to_json(asked).encode()).hexdigest()


def _comparable_values(request: SubmitRequest) -> dict[str, Any]:
    return {
        "pipeline": request.pipeline.name,
        "parameters": request.parameters,
        "name": request.name,
        "metadata": request.metadata,
        "priority": request.priority,
    }


def _find_by_key(database: Database, idempotency_key: str) -> Row[Any] | None:
    query = text(SELECT_BATCH_BY_KEY.format(later=database.sql.now_plus_seconds)).columns(
        parameters=Document, metadata=Document
    )
    with database.read() as connection:
        return connection.execute(query, {"key": idempotency_key, "seconds": -HOLDER_TIMEOUT_SECONDS}).one_or_none()


def _try_create(database: Database, request: SubmitRequest) -> OpenSubmission | None:
    """A new batch; None when somebody else made one under the same key at the same moment."""
    entry = OpenSubmission(new_batch_id(), holders.new_holder_id(), request.idempotency_key)
    try:
        with database.write() as connection:
            insert_batch(connection, database.sql, request, entry)
    except IntegrityError:
        if entry.idempotency_key is None:
            raise
        return None
    return entry


def _try_resume(
    database: Database, request: SubmitRequest, row: Row[Any], sleep: Callable[[float], None]
) -> OpenSubmission | None:
    """The batch that was found, ours from now on where it is still read in; None: look again."""
    if row.fingerprint != request_fingerprint(request):
        raise IdempotencyConflict(_describe_difference(request, row))
    status = BatchStatus(row.status)
    entry = OpenSubmission(
        row.id,
        holders.new_holder_id(),
        request.idempotency_key,
        status,
        row.read_jobs,
        row.read_digest,
        row.failed,
        has_all_rows=row.in_progress_at is not None and not row.reading,
        ingesting=bool(row.reading),
    )
    if not entry.is_open:
        return entry
    if not (
        row.silent
        or holders.is_holder_gone(row.submitter)
        or _holder_stays_silent(database, row, entry.idempotency_key, sleep)
    ):
        return None
    named = {"batch_id": row.id, "submitter": entry.holder_id, "before": row.submitter, "read_jobs": row.read_jobs}
    with database.write() as connection:
        taken = connection.execute(text(TAKE_OVER_BATCH.format(now=database.sql.now)), named).rowcount
    return entry if taken else None


def _holder_stays_silent(
    database: Database, row: Row[Any], idempotency_key: str | None, sleep: Callable[[float], None]
) -> bool:
    """Whether the batch's submitter says nothing for long enough while we wait; False where the batch has changed.

    We wait by our own clock: the database's may have stepped back. Raises KeyBusy when the submitter says something.
    """
    sleep(HOLDER_TIMEOUT_SECONDS)
    now = _find_by_key(database, idempotency_key or "")
    if now is None or not (now.status == BatchStatus.VALIDATING or now.reading):
        return False
    if now.heard_at != row.heard_at:
        raise _key_in_use_error(row.id)
    return bool(now.id == row.id and now.submitter == row.submitter)


def _key_in_use_error(batch_id: str) -> IdempotencyKeyInUse:
    sentence = f"another process submits {batch_id} under this idempotency key"
    return IdempotencyKeyInUse(f"{sentence}; leave it to that one: batchmill wait {batch_id}")


def _describe_difference(request: SubmitRequest, row: Row[Any]) -> str:
    asked = _comparable_values(request)
    other = [name for name in COMPARABLE_FIELDS if getattr(row, name) != asked[name]]
    what = " and ".join(other) or "on-invalid, deadline, max-failures or reuse"
    return (
        f"the idempotency key {request.idempotency_key!r} belongs to {row.id}, which was submitted with another "
        f"{what}; take another key, or give the same as then"
    )
