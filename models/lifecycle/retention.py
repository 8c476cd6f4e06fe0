"""Retention deletes batches that have ended, a few thousand rows at a time so that other writers need not wait long.

A batch is marked first; from then on it cannot be read, replayed or reused. The mark stays until the last row is
deleted, so any process can continue if the first one crashes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

from sqlalchemy import Connection, column, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.documents import format_timestamp
from models.lifecycle.termination import FREE_IDEMPOTENCY_KEY, lock_batch
from models.processes import holders
from models.states import BatchStatus

CHUNK_JOBS = 5_000

MARK_DELETING = "UPDATE batches SET status = 'deleting' WHERE id = :batch_id"

SELECT_OLD_BATCHES = """
SELECT id, name, pipeline, status, total, ended_at FROM (
    SELECT id, name, pipeline, status, total, coalesce(completed_at, failed_at, expired_at, cancelled_at) AS ended_at
    FROM batches b WHERE status IN ('completed', 'failed', 'expired', 'cancelled')
      AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.batch_id = b.id AND r.next_check_at IS NOT NULL)
      AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.source_batch_id = b.id AND r.next_check_at IS NOT NULL)
) AS ended WHERE ended_at <= {later} AND id > :after ORDER BY id LIMIT :most
"""

SELECT_DELETING_BATCHES = "SELECT id FROM batches WHERE status = 'deleting' ORDER BY id LIMIT :most"

# Batches that only their submitter could have accepted; a run's batch and that of a file have others to read them.
SELECT_OPEN_SUBMISSIONS = """
SELECT id, holder_id FROM batches b
WHERE status = 'validating' AND idempotency_key IS NULL AND holder_id IS NOT NULL AND read_request IS NULL
  AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.batch_id = b.id AND r.next_check_at IS NOT NULL)
ORDER BY id LIMIT :most
"""

MARK_ORPHAN_DELETING = """
UPDATE batches SET status = 'deleting'
WHERE id = :batch_id AND status = 'validating' AND idempotency_key IS NULL AND holder_id = :holder_id
"""

JOB_TABLES = ("results", "superseded_results", "jobs")

SELECT_LAST_POSITION = "SELECT max(position) FROM {table} WHERE batch_id = :batch_id"

DELETE_ROWS = "DELETE FROM {table} WHERE batch_id = :batch_id AND position > :behind AND position <= :upto"

DELETE_ATTEMPTS_AND_SLICES = (
    "DELETE FROM attempts WHERE batch_id = :batch_id",
    "DELETE FROM slices WHERE batch_id = :batch_id",
)

DELETE_BATCH = "DELETE FROM batches WHERE id = :batch_id AND status = 'deleting'"


# Kept regardless of age: the next run is compared with them, and users may want to see a paused schedule's history.
MIN_KEPT_RUNS = 50

DELETE_OLD_RUNS = """
DELETE FROM runs WHERE next_check_at IS NULL AND finished_at <= {later} AND scheduled_at < (
    SELECT k.scheduled_at FROM runs k WHERE k.schedule = runs.schedule
    ORDER BY k.scheduled_at DESC LIMIT 1 OFFSET :kept)
"""

# A deleted schedule keeps its watermark and its runs for a while, in case it comes back. Its open runs end first.
PURGE_DELETED_SCHEDULES = """
DELETE FROM schedules WHERE deleted_at <= {later} AND NOT EXISTS (
    SELECT 1 FROM runs r WHERE r.schedule = schedules.name AND r.next_check_at IS NOT NULL)
"""

DELETE_OLD_EVENTS = """
DELETE FROM events WHERE next_delivery_at IS NULL AND occurred_at <= {later}
  AND NOT EXISTS (
      SELECT 1 FROM runs r WHERE r.schedule = events.schedule AND r.scheduled_at = events.scheduled_at)
"""

DELETE_OLD_BATCH_EVENTS = "DELETE FROM batch_events WHERE next_delivery_at IS NULL AND occurred_at <= {later}"


@dataclass(frozen=True, slots=True)
class OldBatch:
    """A batch that ended long enough ago to be deleted."""

    id: str
    name: str | None
    pipeline: str
    status: str
    jobs: int
    ended_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """The object that `batchmill prune --json` prints."""
        return {
            "id": self.id,
            "object": "batch",
            "name": self.name,
            "pipeline": self.pipeline,
            "status": self.status,
            "jobs": self.jobs,
            "ended_at": format_timestamp(self.ended_at),
        }


def old_batches(database: Database, min_age_seconds: float, page_size: int = 500) -> Iterator[OldBatch]:
    """Iterate over the batches that ended at least `min_age_seconds` ago by the database's clock, page by page."""
    query = text(SELECT_OLD_BATCHES.format(later=database.sql.now_plus_seconds)).columns(
        *map(column, ("id", "name", "pipeline", "status", "total")), column("ended_at", UtcDateTime)
    )
    after = ""
    while True:
        with database.read() as connection:
            page = connection.execute(query, {"seconds": -min_age_seconds, "after": after, "most": page_size}).all()
        yield from (OldBatch(*row) for row in page)
        if len(page) < page_size:
            return
        after = page[-1].id


def deleting_batches(database: Database, limit: int = 100) -> list[str]:
    """The ids of batches whose deletion has begun."""
    with database.read() as connection:
        return list(connection.scalars(text(SELECT_DELETING_BATCHES), {"most": limit}))


def begin_deletion_of_orphans(database: Database, limit: int = 100) -> list[str]:
    """Mark batches whose submitter exited on this machine before they were accepted, and that no process can resume.

    A submitter deletes such a batch itself, unless it was killed or the disk was full.
    """
    with database.read() as connection:
        submissions = connection.execute(text(SELECT_OPEN_SUBMISSIONS), {"most": limit}).all()
    orphans = [row for row in submissions if holders.is_holder_gone(row.holder_id)]
    for row in orphans:
        params = {"batch_id": row.id, "holder_id": row.holder_id}
        database.transact(partial(Connection.execute, statement=text(MARK_ORPHAN_DELETING), parameters=params))
    return [row.id for row in orphans]


def begin_deletion(database: Database, batch_id: str) -> bool:
    """Mark an ended batch for deletion; True also if it is marked already, False if it is open or missing."""

    def work(connection: Connection) -> bool:
        batch = lock_batch(connection, database.sql, batch_id, frees_key=True)
        if batch is None:
            return False
        status = BatchStatus(batch.status)
        if status.has_ended:  # clear the key: the same command then creates a new batch
            for statement in (MARK_DELETING, FREE_IDEMPOTENCY_KEY):
                connection.execute(text(statement), {"batch_id": batch_id})
        return status.has_ended or status is BatchStatus.DELETING

    return database.transact(work)


def finish_deletion(database: Database, batch_id: str, max_chunks: int | None = None) -> bool:
    """Delete a marked batch, or at most `max_chunks` chunks of its rows; True once the batch is deleted."""
    left = count() if max_chunks is None else range(max_chunks)
    chunks = _deletion_chunks(database, batch_id)
    for _ in left:
        chunk = next(chunks, None)
        if chunk is None:
            database.transact(lambda connection: _delete_batch(connection, database, batch_id))
            return True
        table, params = chunk
        database.transact(
            partial(Connection.execute, statement=text(DELETE_ROWS.format(table=table)), parameters=params)
        )
    return False


def _delete_batch(connection: Connection, database: Database, batch_id: str) -> None:
    lock_batch(connection, database.sql, batch_id, frees_key=True)  # lock order: the batch's row before its slices
    for statement in (*DELETE_ATTEMPTS_AND_SLICES, DELETE_BATCH):
        connection.execute(text(statement), {"batch_id": batch_id})


def delete_old_runs(database: Database, min_age_seconds: float) -> int:
    """Delete runs that ended at least `min_age_seconds` ago, and events of that age; returns the number of runs.

    The newest `MIN_KEPT_RUNS` runs of each schedule are kept. Schedules that were deleted that long ago go with all.
    """
    params = {"seconds": -min_age_seconds, "kept": MIN_KEPT_RUNS - 1}
    with database.write() as connection:
        runs = connection.execute(text(DELETE_OLD_RUNS.format(later=database.sql.now_plus_seconds)), params).rowcount
        for statement in (DELETE_OLD_EVENTS, DELETE_OLD_BATCH_EVENTS, PURGE_DELETED_SCHEDULES):
            connection.execute(
                text(statement.format(later=database.sql.now_plus_seconds)), {"seconds": -min_age_seconds}
            )
    return runs


def _deletion_chunks(database: Database, batch_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the chunks from the last job down, so that resuming finds the remaining rows by one index lookup."""
    for table in JOB_TABLES:
        with database.read() as connection:
            last = connection.scalar(text(SELECT_LAST_POSITION.format(table=table)), {"batch_id": batch_id})
        for upto in () if last is None else range(last, -1, -CHUNK_JOBS):
            yield table, {"batch_id": batch_id, "behind": upto - CHUNK_JOBS, "upto": upto}
