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
from models.db import Database, Fragments
from models.documents import as_json
from models.errors import BatchmillError, KeyBusy, KeyConflict
from models.states import BatchStatus
from models.tables import Batch
from producer.submission import holders
from producer.submission.cache_key import recipe
from producer.submission.ids import new_batch_id
from producer.submission.request import Request

SILENT_SECONDS = 6.0  # without news, until a submitter of which nothing else is known is taken for dead
PULSE_SECONDS = SILENT_SECONDS / 3  # two may be late

SET_DEADLINE = "UPDATE batches SET expires_at = {expires_at} WHERE id = :batch_id"

FIND = """
SELECT id, status, pipeline, parameters, name, metadata, priority, fingerprint, read_jobs, read_digest, submitter,
       in_progress_at, heard_at, reading,
       CASE WHEN coalesce(heard_at, created_at) <= {later} THEN 1 ELSE 0 END AS silent,
       CASE WHEN status = 'validating' OR reading
            THEN (SELECT count(*) FROM results r WHERE r.batch_id = b.id AND r.status = 'failed' AND r.slice_id IS NULL)
            ELSE 0 END AS failed
FROM batches b WHERE idempotency_key = :key
"""

TAKE_OVER = """
UPDATE batches SET submitter = :submitter, heard_at = {now}
WHERE id = :batch_id AND (status = 'validating' OR (status = 'in_progress' AND reading))
  AND submitter = :before AND read_jobs = :read_jobs AND idempotency_key IS NOT NULL
"""

TAKE = """
UPDATE batches SET submitter = :submitter, heard_at = {now}, read_jobs = 0, read_digest = NULL
WHERE id = :batch_id AND status = 'validating'
"""

BEAT = """
UPDATE batches SET heard_at = {now}
WHERE id = :batch_id AND (status = 'validating' OR (status = 'in_progress' AND reading)) AND submitter = :submitter
"""

HELD = "SELECT submitter, in_progress_at FROM batches WHERE id = :batch_id"

NAMED = ("pipeline", "parameters", "name", "metadata", "priority")  # what of a request a sentence can compare


@dataclass(frozen=True, slots=True)
class Entry:
    """A batch's row: the token that it is held by, and what of its source is in already."""

    batch_id: str
    submitter: str
    key: str | None = None
    status: BatchStatus = BatchStatus.VALIDATING
    read_jobs: int = 0
    digest: str | None = None  # of the rows that are in
    failed: int = 0  # of them, as invalid
    whole: bool = False  # accepted with all its rows, rather than ended while it was read in
    reading: bool = False  # worked on already, while more is read in

    @property
    def is_open(self) -> bool:
        """Whether it can be read into."""
        return self.status is BatchStatus.VALIDATING or (self.status is BatchStatus.IN_PROGRESS and self.reading)


def enter(database: Database, request: Request, pause: Callable[[float], None] = time.sleep) -> Entry:
    """A batch to read into: a new one, or the one that has the request's idempotency key.

    Raises KeyConflict where that one was asked to be something else, and KeyBusy while somebody else reads into it.
    """
    while True:
        found = None if request.idempotency_key is None else _find(database, request.idempotency_key)
        entry = _made(database, request) if found is None else _held(database, request, found, pause)
        if entry is not None:
            return entry


def insert_batch(connection: Connection, sql: Fragments, request: Request, entry: Entry) -> None:
    """The row of a batch to be read into; an entry without a submitter leaves that to whoever takes it over."""
    pipeline = request.pipeline
    row = {
        "id": entry.batch_id, "name": request.name, "pipeline": pipeline.name, "task": pipeline.task,
        "model": pipeline.model, "revision": pipeline.revision, "parameters": request.parameters,
        "metadata": request.metadata, "priority": request.priority, "max_attempts": pipeline.max_attempts,
        "status": BatchStatus.VALIDATING.value, "submitter": entry.submitter or None, "idempotency_key": entry.key,
        "fingerprint": None if entry.key is None else fingerprint(request),
        "recipe": recipe(pipeline, request.parameters),
    }  # fmt: skip
    connection.execute(insert(Batch.__table__).values(row))  # type: ignore[arg-type]
    if request.deadline is not None:
        setting = request.deadline.setting(SET_DEADLINE, sql.later, batch_id=entry.batch_id)
        connection.execute(*setting)


def taken(connection: Connection, sql: Fragments, batch_id: str) -> Entry | None:
    """A batch to read into from its beginning, taken from whoever had it; None where it is read in already, or gone.

    In the caller's transaction, which sees to it that the one who had it is at it no more: what that one got in is
    there still.
    """
    entry = Entry(batch_id, holders.new())
    named = {"batch_id": batch_id, "submitter": entry.submitter}
    return entry if connection.execute(text(TAKE.format(now=sql.now)), named).rowcount else None


def beat(database: Database, entry: Entry) -> bool:
    """Say that the submitter is there; returns whether the batch is still its own. Raises Unreachable."""
    named = {"batch_id": entry.batch_id, "submitter": entry.submitter}
    with database.write() as connection:
        return connection.execute(text(BEAT.format(now=database.sql.now)), named).rowcount == 1


def lost(connection: Connection, entry: Entry) -> BatchmillError:
    """The error of a batch that somebody deleted, ended or took over under our hands."""
    row = connection.execute(text(HELD), {"batch_id": entry.batch_id}).one_or_none()
    if row is not None and row.submitter != entry.submitter:
        return _busy(entry.batch_id)
    if row is not None and row.in_progress_at is not None:
        return BatchmillError(f"{entry.batch_id} ended while it was read in; see: batchmill show {entry.batch_id}")
    return removed(entry.batch_id)


def removed(batch_id: str) -> BatchmillError:
    """The error of a batch that is gone, or that reads no more."""
    return BatchmillError(f"{batch_id} was removed or ended while it was being submitted; submit it again")


def fingerprint(request: Request) -> str:
    """A hash of all that a batch was asked to be, but its rows."""
    deadline = request.deadline and [request.deadline.seconds, str(request.deadline.moment)]
    failures = request.max_failures and [request.max_failures.count, request.max_failures.share]
    asked = [*_named(request).values(), request.keeps_invalid, deadline, failures]
    if request.reuse:  # as it was before there was this
        asked.append("reuse")
    return hashlib.sha256(as_json(asked).encode()).hexdigest()


def _named(request: Request) -> dict[str, Any]:
    return {
        "pipeline": request.pipeline.name, "parameters": request.parameters, "name": request.name,
        "metadata": request.metadata, "priority": request.priority,
    }  # fmt: skip


def _find(database: Database, key: str) -> Row[Any] | None:
    query = text(FIND.format(later=database.sql.later)).columns(parameters=Document, metadata=Document)
    with database.read() as connection:
        return connection.execute(query, {"key": key, "seconds": -SILENT_SECONDS}).one_or_none()


def _made(database: Database, request: Request) -> Entry | None:
    """A new batch; None when somebody else made one under the same key at the same moment."""
    entry = Entry(new_batch_id(), holders.new(), request.idempotency_key)
    try:
        with database.write() as connection:
            insert_batch(connection, database.sql, request, entry)
    except IntegrityError:
        if entry.key is None:
            raise
        return None
    return entry


def _held(database: Database, request: Request, found: Row[Any], pause: Callable[[float], None]) -> Entry | None:
    """The batch that was found, ours from now on where it is still read in; None: look again."""
    if found.fingerprint != fingerprint(request):
        raise KeyConflict(_difference(request, found))
    status = BatchStatus(found.status)
    entry = Entry(
        found.id, holders.new(), request.idempotency_key, status, found.read_jobs, found.read_digest, found.failed,
        whole=found.in_progress_at is not None and not found.reading, reading=bool(found.reading),
    )  # fmt: skip
    if not entry.is_open:
        return entry
    if not (found.silent or holders.has_died(found.submitter) or _stays_silent(database, found, entry.key, pause)):
        return None
    named = {
        "batch_id": found.id,
        "submitter": entry.submitter,
        "before": found.submitter,
        "read_jobs": found.read_jobs,
    }
    with database.write() as connection:
        taken = connection.execute(text(TAKE_OVER.format(now=database.sql.now)), named).rowcount
    return entry if taken else None


def _stays_silent(database: Database, found: Row[Any], key: str | None, pause: Callable[[float], None]) -> bool:
    """Whether the batch's submitter says nothing for long enough while we wait; False where the batch has changed.

    We wait by our own clock: the database's may have stepped back. Raises KeyBusy when the submitter says something.
    """
    pause(SILENT_SECONDS)
    now = _find(database, key or "")
    if now is None or not (now.status == BatchStatus.VALIDATING or now.reading):
        return False
    if now.heard_at != found.heard_at:
        raise _busy(found.id)
    return bool(now.id == found.id and now.submitter == found.submitter)


def _busy(batch_id: str) -> KeyBusy:
    sentence = f"another process submits {batch_id} under this idempotency key"
    return KeyBusy(f"{sentence}; leave it to that one: batchmill wait {batch_id}")


def _difference(request: Request, found: Row[Any]) -> str:
    asked = _named(request)
    other = [name for name in NAMED if getattr(found, name) != asked[name]]
    what = " and ".join(other) or "on-invalid, deadline, max-failures or reuse"
    return (
        f"the idempotency key {request.idempotency_key!r} belongs to {found.id}, which was submitted with another "
        f"{what}; take another key, or give the same as then"
    )
