"""Opening a batch records what to read and how; its rows are read afterwards, by this process or by another."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from models.db import Database
from models.documents import to_json
from models.errors import IdempotencyConflict
from models.processes import holders
from models.processes.failpoints import failpoint
from models.settings import Settings
from producer.batches import views
from producer.submission import open_submission
from producer.submission.identity.batch_ids import new_batch_id
from producer.submission.identity.fingerprint import request_fingerprint
from producer.submission.open_submission import OpenSubmission
from producer.submission.request import SubmitRequest
from producer.uploads import result_files
from producer.uploads.files import FileView
from producer.uploads.intake.read_request import ReadRequest
from producer.workers import model_checks

SELECT_BY_KEY = "SELECT id, request_fingerprint FROM batches WHERE tenant = :tenant AND idempotency_key = :key"


@dataclass(frozen=True, slots=True)
class OpenedBatch:
    """A batch that has still to be read.

    submission: held by this process, which reads it at once; None = the first that comes
    existed: it was there before, under its idempotency key
    """

    id: str
    submission: OpenSubmission | None = None
    existed: bool = False


def open_batch(
    database: Database,
    settings: Settings,
    request: SubmitRequest,
    read_request: ReadRequest,
    file: FileView | None = None,
    *,
    is_read_here: bool = False,
) -> OpenedBatch:
    """Insert a `validating` batch, or find the one that has the request's idempotency key.

    file: its rows; None = `read_request` names another source
    is_read_here: this process reads it at once, so no other one begins

    Raises UsageError for all that can be known before a row is read, IdempotencyConflict if the key belongs to another
    request or file, NotFound if another tenant has the batch whose results are to be read, and TooManyJobs if the
    tenant may have no more jobs.
    """
    request = replace(request, max_unanswered_jobs=settings.unanswered_jobs_cap(request.tenant))
    read_request.check(settings, request.pipeline, has_file=file is not None)
    if read_request.from_batch is not None:
        views.get_batch(database, read_request.from_batch, request.tenant)
        request = replace(request, source_batch_id=read_request.from_batch)
    fingerprint = _fingerprint(request, read_request, file)
    while True:
        existing = _find_by_key(database, request, fingerprint)
        if existing is not None:
            return OpenedBatch(existing, existed=True)
        model_checks.check_before_submit(database, request.pipeline, request.parameters)
        if request.deadline is not None:
            request.deadline.check_future()
        holder_id = holders.new_holder_id() if is_read_here else ""
        submission = OpenSubmission(new_batch_id(), holder_id, request.idempotency_key)
        values = {
            "endpoint": read_request.endpoint,
            "completion_window": read_request.completion_window,
            "input_file_id": None if file is None else file.id,
            "read_request": read_request.as_document(),
            "response_options": read_request.response_options,
            "request_fingerprint": None if request.idempotency_key is None else fingerprint,
        }
        if _try_insert(database, settings, request, submission, values):
            failpoint("after_open_batch")
            return OpenedBatch(submission.batch_id, replace(submission, idempotency_key=None) if holder_id else None)


def _try_insert(
    database: Database, settings: Settings, request: SubmitRequest, submission: OpenSubmission, values: dict[str, Any]
) -> bool:
    """Insert the batch; returns False if another request with the same key was faster."""

    def work(connection: Connection) -> None:
        open_submission.insert_batch(connection, database.sql, request, submission, values)
        if values["endpoint"] is not None:
            result_files.insert_result_files(connection, database.sql, settings, submission.batch_id, request.tenant)

    try:
        database.transact(work)
    except IntegrityError:
        if submission.idempotency_key is None:
            raise
        return False
    return True


def _find_by_key(database: Database, request: SubmitRequest, fingerprint: str) -> str | None:
    if request.idempotency_key is None:
        return None
    params = {"tenant": request.tenant, "key": request.idempotency_key}
    with database.read() as connection:
        row = connection.execute(text(SELECT_BY_KEY), params).one_or_none()
    if row is None:
        return None
    if row.request_fingerprint != fingerprint:
        raise IdempotencyConflict(
            f"the idempotency key {request.idempotency_key!r} belongs to {row.id}, which was submitted with another "
            "request or file, or over SQL; use another key, or the same request"
        )
    return str(row.id)


def _fingerprint(request: SubmitRequest, read_request: ReadRequest, file: FileView | None) -> str:
    """A hash of the request and its source; a file counts by its content, because a repeat uploads it again."""
    content = None if file is None else file.sha256
    values = [request_fingerprint(request), read_request.as_document(), content]
    return hashlib.sha256(to_json(values).encode()).hexdigest()
