"""Which events of batches were delivered to their webhooks."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.documents import format_timestamp

MAX_DELIVERIES = 20  # that a display has

SELECT_DELIVERIES = """
SELECT kind, occurred_at, delivered_at, delivery_attempts AS attempts, next_delivery_at FROM batch_events
WHERE batch_id = :batch_id ORDER BY id DESC LIMIT :limit
"""

COUNT_UNDELIVERED = """
SELECT count(*) FILTER (WHERE next_delivery_at IS NULL) AS abandoned,
       count(*) FILTER (WHERE next_delivery_at IS NOT NULL) AS retried
FROM batch_events WHERE delivered_at IS NULL AND delivery_attempts > 0 AND occurred_at >= {later}
"""


@dataclass(frozen=True, slots=True)
class UndeliveredEvents:
    """The numbers of events that were sent in vain, and are given up or sent again."""

    abandoned: int
    retried: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """The delivery of one event."""

    kind: str
    occurred_at: datetime
    delivered_at: datetime | None
    attempts: int
    next_delivery_at: datetime | None  # None once it was delivered or abandoned

    @property
    def state(self) -> str:
        """`delivered`, `pending` while it is retried, or `abandoned`."""
        if self.delivered_at is not None:
            return "delivered"
        return "abandoned" if self.next_delivery_at is None else "pending"

    def as_dict(self) -> dict[str, Any]:
        """Return the delivery as it is printed."""
        return {
            "type": self.kind,
            "occurred_at": format_timestamp(self.occurred_at),
            "state": self.state,
            "attempts": self.attempts,
            "delivered_at": self.delivered_at and format_timestamp(self.delivered_at),
        }


def list_deliveries(database: Database, batch_id: str) -> list[Delivery]:
    """Return the deliveries of a batch's events, newest first; a batch that was retried may have several."""
    query = text(SELECT_DELIVERIES).columns(
        occurred_at=UtcDateTime, delivered_at=UtcDateTime, next_delivery_at=UtcDateTime
    )
    with database.read() as connection:
        rows = connection.execute(query, {"batch_id": batch_id, "limit": MAX_DELIVERIES}).all()
    return [Delivery(row.kind, row.occurred_at, row.delivered_at, row.attempts, row.next_delivery_at) for row in rows]


def count_undelivered(database: Database, max_age_seconds: float) -> UndeliveredEvents:
    """Count the events of this age at most that did not reach their webhook."""
    query = text(COUNT_UNDELIVERED.format(later=database.sql.now_plus_seconds))
    with database.read() as connection:
        row = connection.execute(query, {"seconds": -max_age_seconds}).one()
    return UndeliveredEvents(row.abandoned, row.retried)
