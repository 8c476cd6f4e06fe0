"""The state of many batches at once, to see which of them have changed; one statement reads a thousand."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import TextClause, bindparam, func, select, text

from models.db import Database
from models.states import BatchStatus
from models.tables.batches import Batch
from producer.batches.views import JobCounts

MAX_IDS = 1_000  # in one statement
MAX_OPEN, MAX_NEWEST = 5_000, 100

COLUMNS = "id, tenant, status, ingesting, rows_read, last_seq, total, succeeded, failed, cancelled, expired"
SELECT_STATES = text(f"SELECT {COLUMNS} FROM batches WHERE id IN :ids").bindparams(  # noqa: S608
    bindparam("ids", expanding=True)
)
# Both parts by an index, `batches_open_of_tenant` and `batches_newest`, whatever the number of batches.
SELECT_OPEN_AND_NEWEST = text(f"""
SELECT {COLUMNS} FROM (
    SELECT {COLUMNS} FROM batches WHERE status IN ('validating', 'in_progress', 'cancelling') LIMIT {MAX_OPEN}) AS open
UNION ALL
SELECT {COLUMNS} FROM (
    SELECT {COLUMNS} FROM batches ORDER BY created_at DESC, id DESC LIMIT {MAX_NEWEST}) AS newest
""")  # noqa: S608

ENDED = [status.value for status in BatchStatus if status.has_ended]
ENDED_AT = func.coalesce(Batch.completed_at, Batch.failed_at, Batch.cancelled_at, Batch.expired_at)


@dataclass(frozen=True, slots=True)
class BatchState:
    """What changes while a batch runs; equal states mean that nothing has happened.

    rows_read: of its source, which alone grow until the batch is accepted
    """

    id: str
    tenant: str
    status: BatchStatus
    ingesting: bool
    rows_read: int
    last_seq: int
    counts: JobCounts

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that followers get."""
        return {
            "object": "batch.state",
            "id": self.id,
            "status": self.status.value,
            "ingesting": self.ingesting,
            "rows_read": self.rows_read,
            "last_seq": self.last_seq,
            "request_counts": self.counts.as_dict(),
        }


def read_states(database: Database, batch_ids: Collection[str]) -> dict[str, BatchState]:
    """Return the states of these batches by id; those that are gone are missing."""
    ids = list(batch_ids)
    states: dict[str, BatchState] = {}
    for start in range(0, len(ids), MAX_IDS):
        states |= _read(database, SELECT_STATES, {"ids": ids[start : start + MAX_IDS]})
    return states


def read_open_and_newest(database: Database) -> dict[str, BatchState]:
    """Return the states of the batches that have not ended, at most 5,000, and of the 100 newest."""
    return _read(database, SELECT_OPEN_AND_NEWEST, {})


def find_open_or_ended_since(database: Database, batch_ids: Collection[str], since: datetime) -> set[str]:
    """Return which of these batches are open, or ended at `since` or later."""
    ids = list(batch_ids)
    found: set[str] = set()
    is_open, is_new = Batch.status.not_in(ENDED), ENDED_AT >= since  # noqa: SIM300 - the column is no constant
    for start in range(0, len(ids), MAX_IDS):
        query = select(Batch.id).where(Batch.id.in_(ids[start : start + MAX_IDS]), is_open | is_new)
        with database.statement() as connection:
            found |= set(connection.scalars(query))
    return found


def _read(database: Database, query: TextClause, params: dict[str, Any]) -> dict[str, BatchState]:
    with database.statement() as connection:
        rows = connection.execute(query, params).all()
    # A batch that is being deleted has only a part of its rows, and is as good as gone.
    return {row[0]: _state(*row) for row in rows if row[2] != BatchStatus.DELETING}


@lru_cache(maxsize=2 * (MAX_OPEN + MAX_NEWEST))  # most rows are as they were a second ago
def _state(
    batch_id: str, tenant: str, status: str, ingesting: bool, rows_read: int, last_seq: int, *counts: int
) -> BatchState:
    return BatchState(batch_id, tenant, BatchStatus(status), bool(ingesting), rows_read, last_seq, JobCounts(*counts))
