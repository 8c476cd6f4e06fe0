"""Taking over a batch whose rows are not all read: who reads it, how often that began, and when it is tried again."""

from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, text

from models.backoff import max_backoff_seconds
from models.db import Database
from models.dialects.columns import Document
from models.documents import to_json
from models.errors import BatchmillError
from models.lifecycle import due_intakes
from models.processes import holders
from models.states import BatchStatus
from producer.submission.open_submission import OpenSubmission
from producer.uploads.intake import failing

MAX_STARTS = 20  # of readers that got no further, each of which was killed; the rows then kill them

# A file or database that can't be reached is tried again after so many seconds, in all for about a day.
POSTPONED_SECONDS, MAX_POSTPONEMENTS = 5.0, 150

SELECT_BATCH = f"""
SELECT b.id, b.status, b.pipeline, b.parameters, b.name, b.metadata, b.priority, b.source_batch_id, b.tenant,
       b.webhook_url, b.holder_id, b.rows_read, b.ingesting, b.read_request, b.input_file_id, f.location, f.bytes,
       (SELECT count(*) FROM results r WHERE r.batch_id = b.id AND r.status = 'failed' AND r.slice_id IS NULL) AS failed
FROM (SELECT * FROM batches WHERE id = :batch_id AND {due_intakes.IS_OPEN}) AS b
LEFT JOIN files f ON f.id = b.input_file_id
"""  # noqa: S608

TAKE_OVER = f"""
UPDATE batches SET holder_id = :holder_id, holder_heartbeat_at = {{now}}, read_request = {{document}}
WHERE id = :batch_id AND {due_intakes.IS_OPEN} AND rows_read = :rows_read
  AND coalesce(holder_id, '') = :previous_holder_id
"""  # noqa: S608
DOCUMENTS = {"postgresql": "CAST(:read_request AS jsonb)", "sqlite": ":read_request"}

# Nobody takes over a batch whose heartbeat is in the future.
POSTPONE = f"""
UPDATE batches SET holder_id = NULL, holder_heartbeat_at = {{later}}, read_request = {{document}}
WHERE id = :batch_id AND {due_intakes.IS_OPEN} AND holder_id = :holder_id
"""  # noqa: S608

# A batch that has all its rows, or has ended, needs its file no more.
FORGET_READ_REQUEST = f"UPDATE batches SET read_request = NULL WHERE id = :batch_id AND NOT ({due_intakes.IS_OPEN})"  # noqa: S608


def find_open(database: Database, batch_id: str) -> Row[Any] | None:
    """The row of a batch whose rows are not all read; None = there is none."""
    query = text(SELECT_BATCH).columns(parameters=Document, metadata=Document, read_request=Document)
    with database.read() as connection:
        return connection.execute(query, {"batch_id": batch_id}).one_or_none()


def take_over(database: Database, row: Row[Any]) -> OpenSubmission | None:
    """The batch as ours, if its holder has not changed; it counts how often reading began without getting on."""
    starts = row.read_request.get("starts", 0) if row.read_request.get("rows_at_start") == row.rows_read else 0
    document = {**row.read_request, "starts": starts + 1, "rows_at_start": row.rows_read}
    holder_id = holders.new_holder_id()
    params = {
        "batch_id": row.id,
        "holder_id": holder_id,
        "previous_holder_id": row.holder_id or "",
        "rows_read": row.rows_read,
        "read_request": to_json(document),
    }
    sql = database.sql
    statement = TAKE_OVER.format(now=sql.now, document=_document_parameter(database))
    taken = database.transact(lambda connection: connection.execute(text(statement), params).rowcount)
    if not taken:
        return None
    status = BatchStatus(row.status)
    submission = OpenSubmission(
        row.id, holder_id, None, status, row.rows_read, failed=row.failed, ingesting=bool(row.ingesting)
    )
    if starts >= MAX_STARTS:
        message = f"{starts} processes that read it were ended at the same row; see their logs, and split the file"
        failing.fail_batch(database, submission, "intake_crashed", message)
        return None
    return submission


def postpone(database: Database, row: Row[Any], submission: OpenSubmission, error: BatchmillError) -> None:
    """Let a batch be tried again later; after about a day it fails.

    With the read request from before the try, this one does not count among those that were killed.
    """
    count = row.read_request.get("postponements", 0) + 1
    if count > MAX_POSTPONEMENTS:
        failing.fail_batch(database, submission, error.code, f"its rows could not be read for a day: {error}")
        return
    params = {
        **submission.params,
        "read_request": to_json({**row.read_request, "postponements": count}),
        "seconds": max_backoff_seconds(count, POSTPONED_SECONDS, due_intakes.MAX_POSTPONED_SECONDS),
    }
    statement = text(POSTPONE.format(later=database.sql.now_plus_seconds, document=_document_parameter(database)))
    database.transact(partial(Connection.execute, statement=statement, parameters=params))


def forget_read_request(database: Database, batch_id: str) -> None:
    """Record that a batch's rows need not be read any more, unless some are missing."""
    statement = text(FORGET_READ_REQUEST)
    database.transact(lambda connection: connection.execute(statement, {"batch_id": batch_id}))


def _document_parameter(database: Database) -> str:
    """The parameter `read_request` in SQL."""
    return DOCUMENTS[database.engine.dialect.name]
