"""Retention: batches that have ended are deleted, a few thousand rows at a time, so that others get their turn.

A batch is marked first: from then on nobody reads, replays or counts on it. Should whoever deletes it die half-way,
anybody can go on, since the mark stays until the last row is gone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

from sqlalchemy import Connection, column, text

from models.columns import Moment
from models.db import Database
from models.lifecycle.termination import FREE_KEY, lock_batch
from models.states import BatchStatus

CHUNK_JOBS = 5_000

MARK = "UPDATE batches SET status = 'deleting' WHERE id = :batch_id"

AGED = """
SELECT id, name, pipeline, status, total, ended_at FROM (
    SELECT id, name, pipeline, status, total, coalesce(completed_at, failed_at, expired_at, cancelled_at) AS ended_at
    FROM batches b WHERE status IN ('completed', 'failed', 'expired', 'cancelled')
      AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.batch_id = b.id AND r.look_at IS NOT NULL)
) AS ended WHERE ended_at <= {later} AND id > :after ORDER BY id LIMIT :most
"""

MARKED = "SELECT id FROM batches WHERE status = 'deleting' ORDER BY id LIMIT :most"

TABLES = ("results", "past_results", "jobs")

LAST = "SELECT max(position) FROM {table} WHERE batch_id = :batch_id"

DELETE = "DELETE FROM {table} WHERE batch_id = :batch_id AND position > :behind AND position <= :upto"

REST = ("DELETE FROM attempts WHERE batch_id = :batch_id", "DELETE FROM slices WHERE batch_id = :batch_id")

VANISH = "DELETE FROM batches WHERE id = :batch_id AND status = 'deleting'"


# However old: what the next run is held against, and what a person may want to see of a schedule that rests.
KEPT_RUNS = 50

FORGET_RUNS = """
DELETE FROM runs WHERE look_at IS NULL AND finished_at <= {later} AND slot <
    (SELECT k.slot FROM runs k WHERE k.schedule = runs.schedule ORDER BY k.slot DESC LIMIT 1 OFFSET :kept)
"""

FORGET_EVENTS = """
DELETE FROM events WHERE send_at IS NULL AND at <= {later}
  AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.schedule = events.schedule AND r.slot = events.slot)
"""


@dataclass(frozen=True, slots=True)
class Aged:
    """A batch that ended long enough ago."""

    id: str
    name: str | None
    pipeline: str
    status: str
    jobs: int
    ended_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill prune --json` prints it; the moment in seconds since 1970."""
        return {
            "id": self.id, "object": "batch", "name": self.name, "pipeline": self.pipeline, "status": self.status,
            "jobs": self.jobs, "ended_at": int(self.ended_at.timestamp()),
        }  # fmt: skip


def aged(database: Database, seconds: float, most: int = 500) -> Iterator[Aged]:
    """The batches that ended so many seconds ago or earlier, by the database's clock, page by page."""
    query = text(AGED.format(later=database.sql.later)).columns(
        *map(column, ("id", "name", "pipeline", "status", "total")), column("ended_at", Moment)
    )
    after = ""
    while True:
        with database.read() as connection:
            page = connection.execute(query, {"seconds": -seconds, "after": after, "most": most}).all()
        yield from (Aged(*row) for row in page)
        if len(page) < most:
            return
        after = page[-1].id


def marked(database: Database, most: int = 100) -> list[str]:
    """Batches whose deletion has begun."""
    with database.read() as connection:
        return list(connection.scalars(text(MARKED), {"most": most}))


def mark(database: Database, batch_id: str) -> bool:
    """Begin to delete a batch that has ended, or see that it has begun; False where it is open, or there is none."""

    def work(connection: Connection) -> bool:
        batch = lock_batch(connection, database.sql, batch_id, frees_key=True)
        if batch is None:
            return False
        status = BatchStatus(batch.status)
        if status.ended:  # its key is free at once: the same command again is a new batch
            for statement in (MARK, FREE_KEY):
                connection.execute(text(statement), {"batch_id": batch_id})
        return status.ended or status is BatchStatus.DELETING

    return database.transact(work)


def finish(database: Database, batch_id: str, most_chunks: int | None = None) -> bool:
    """Delete the rows of a marked batch, or so many chunks of them; returns whether it is gone."""
    left = count() if most_chunks is None else range(most_chunks)
    chunks = _chunks(database, batch_id)
    for _ in left:
        chunk = next(chunks, None)
        if chunk is None:
            database.transact(lambda connection: _vanish(connection, database, batch_id))
            return True
        table, named = chunk
        database.transact(partial(Connection.execute, statement=text(DELETE.format(table=table)), parameters=named))
    return False


def _vanish(connection: Connection, database: Database, batch_id: str) -> None:
    lock_batch(connection, database.sql, batch_id, frees_key=True)  # before its slices, as everywhere
    for statement in (*REST, VANISH):
        connection.execute(text(statement), {"batch_id": batch_id})


def forget(database: Database, seconds: float) -> int:
    """Delete runs that ended so long ago, but the newest of each schedule, and events as old; returns how many runs."""
    named = {"seconds": -seconds, "kept": KEPT_RUNS - 1}
    with database.write() as connection:
        runs = connection.execute(text(FORGET_RUNS.format(later=database.sql.later)), named).rowcount
        connection.execute(text(FORGET_EVENTS.format(later=database.sql.later)), {"seconds": -seconds})
    return runs


def _chunks(database: Database, batch_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The last jobs first, downwards: whoever goes on finds the end of what is left at the end of an index."""
    for table in TABLES:
        with database.read() as connection:
            last = connection.scalar(text(LAST.format(table=table)), {"batch_id": batch_id})
        for upto in () if last is None else range(last, -1, -CHUNK_JOBS):
            yield table, {"batch_id": batch_id, "behind": upto - CHUNK_JOBS, "upto": upto}
