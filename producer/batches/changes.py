"""The state of many batches at once, to see which of them have changed; one statement reads a thousand."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Executable, select

from models.db import Database
from models.states import BatchStatus
from models.tables import Batch
from producer.batches.views import JobCounts

OPEN_STATUSES = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING)
MAX_IDS = 1_000  # in one statement
MAX_OPEN, MAX_NEWEST = 5_000, 100

COLUMNS = (
    Batch.id,
    Batch.tenant,
    Batch.status,
    Batch.ingesting,
    Batch.last_seq,
    Batch.total,
    Batch.succeeded,
    Batch.failed,
    Batch.cancelled,
    Batch.expired,
)


@dataclass(frozen=True, slots=True)
class BatchState:
    """What changes while a batch runs; equal states mean that nothing has happened."""

    id: str
    tenant: str
    status: BatchStatus
    ingesting: bool
    last_seq: int
    counts: JobCounts

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that followers get."""
        return {
            "object": "batch.state",
            "id": self.id,
            "status": self.status.value,
            "ingesting": self.ingesting,
            "last_seq": self.last_seq,
            "request_counts": self.counts.as_dict(),
        }


def read_states(database: Database, batch_ids: Collection[str]) -> dict[str, BatchState]:
    """Return the states of these batches by id; those that are gone are missing."""
    ids = list(batch_ids)
    states: dict[str, BatchState] = {}
    for start in range(0, len(ids), MAX_IDS):
        states |= _read(database, select(*COLUMNS).where(Batch.id.in_(ids[start : start + MAX_IDS])))
    return states


def read_open_and_newest(database: Database) -> dict[str, BatchState]:
    """Return the states of the batches that have not ended, at most 5,000, and of the 100 newest."""
    newest = select(*COLUMNS).order_by(Batch.created_at.desc(), Batch.id.desc()).limit(MAX_NEWEST)
    not_ended = select(*COLUMNS).where(Batch.status.in_([status.value for status in OPEN_STATUSES])).limit(MAX_OPEN)
    return _read(database, newest) | _read(database, not_ended)


def _read(database: Database, query: Executable) -> dict[str, BatchState]:
    with database.read() as connection:
        rows = connection.execute(query).all()
    return {
        row.id: BatchState(
            row.id,
            row.tenant,
            BatchStatus(row.status),
            row.ingesting,
            row.last_seq,
            JobCounts(row.total, row.succeeded, row.failed, row.cancelled, row.expired),
        )
        for row in rows
        if row.status != BatchStatus.DELETING  # it has only a part of its rows, and is as good as gone
    }
