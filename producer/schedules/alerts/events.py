"""Events about schedules, each recorded once in SQL, logged, and sent to a webhook if there is one."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import Connection, event, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from models.db import Database
from models.dialects.fragments import SQL_FRAGMENTS
from models.documents import format_timestamp
from models.tables.schedules import Event
from producer.readers.storable import make_storable

log = structlog.get_logger(__name__)


class EventKind(StrEnum):
    """The kind of an event; programs compare these values."""

    MISSED = "missed"  # no worker was up when it was due
    SKIPPED = "skipped"  # the previous run was still open
    FAILED = "failed"
    LATE = "late"  # it will probably miss its deadline
    OVERDUE = "overdue"  # it missed its deadline
    WAITING = "waiting"  # its source is not ready
    DRIFT = "drift"  # its results differ from earlier runs
    MODEL_CHANGED = "model_changed"
    RECOVERED = "recovered"  # the first completed run after a failed or missed one

    @property
    def log_level(self) -> str:
        """The level at which the event is logged."""
        if self in (EventKind.MISSED, EventKind.FAILED, EventKind.OVERDUE):
            return "error"
        return "info" if self is EventKind.RECOVERED else "warning"


@dataclass(frozen=True, slots=True)
class EventView:
    """One event as it is stored."""

    id: int
    schedule: str
    scheduled_at: datetime | None
    kind: str
    message: str
    occurred_at: datetime
    delivered_at: datetime | None  # by its webhook
    has_webhook: bool = False
    next_delivery_at: datetime | None = None

    @property
    def delivery(self) -> str:
        """Whether its webhook accepted it: `none` (no webhook), `delivered`, `pending`, or `failed` for good."""
        if not self.has_webhook:
            return "none"
        if self.delivered_at is not None:
            return "delivered"
        return "failed" if self.next_delivery_at is None else "pending"

    def as_dict(self) -> dict[str, Any]:
        """Return the event as it is printed; these names are stable."""
        times = {
            name: time and format_timestamp(time)
            for name, time in (("occurred_at", self.occurred_at), ("delivered_at", self.delivered_at))
        }
        scheduled_at = self.scheduled_at and format_timestamp(self.scheduled_at)
        return {
            "schedule": self.schedule,
            "scheduled_at": scheduled_at,
            "kind": self.kind,
            "message": self.message,
            **times,
        }


def record_event(
    connection: Connection,
    schedule: str,
    scheduled_at: datetime | None,
    kind: str,
    message: str,
    *,
    occurred_at: datetime,
    url: str | None = None,
    error_code: str | None = None,
) -> bool:
    """Record an event once for each run and kind; return whether it is new.

    A new event is logged when the caller's transaction commits, and sent to `url` soon after.

    connection: connection with the caller's transaction
    schedule: name of the schedule
    scheduled_at: time of the run, None = the event has no run and is recorded again when its message changes
    kind: value of an `EventKind`
    message: sentence for people, which the log has only for an error, because others may quote labels
    occurred_at: time of the event
    url: webhook, None = the event is not sent
    error_code: code of the error that the event is about
    """
    event_kind, message = EventKind(kind), make_storable(message)
    if scheduled_at is None and _repeats_newest(connection, schedule, event_kind, message):
        return False  # the unique index treats NULLs as distinct
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    values = {
        "schedule": schedule,
        "scheduled_at": scheduled_at,
        "kind": event_kind.value,
        "message": message,
        "occurred_at": occurred_at,
        "webhook_url": url,
        "next_delivery_at": text(SQL_FRAGMENTS[connection.dialect.name].now) if url else None,
    }
    statement = dialect.insert(Event.__table__).values(values).on_conflict_do_nothing().returning(Event.id)
    if connection.scalar(statement) is None:
        return False
    _log_on_commit(connection, schedule, scheduled_at, event_kind, error_code, message)
    return True


def list_newest(
    database: Database, schedule: str | None = None, limit: int = 20, *, scheduled_at: datetime | None = None
) -> list[EventView]:
    """Return the newest events, newest first.

    database: our database
    schedule: name of a schedule, None = all
    limit: number of events
    scheduled_at: time of one run, None = all
    """
    query = select(*_EVENT_COLUMNS).order_by(Event.id.desc()).limit(limit)
    if scheduled_at is not None:
        query = query.where(Event.scheduled_at == scheduled_at)
    if schedule is not None:
        query = query.where(Event.schedule == schedule)
    with database.read() as connection:
        return [EventView(*row) for row in connection.execute(query)]


def count_undelivered(database: Database, since: datetime) -> dict[str, int]:
    """Count the events since a time whose delivery was abandoned, by schedule."""
    conditions = (
        Event.webhook_url.is_not(None),
        Event.delivered_at.is_(None),
        Event.next_delivery_at.is_(None),
        Event.occurred_at >= since,
    )
    query = select(Event.schedule, func.count()).where(*conditions).group_by(Event.schedule).order_by(Event.schedule)
    with database.read() as connection:
        return {row.schedule: row[1] for row in connection.execute(query)}


def _repeats_newest(connection: Connection, schedule: str, kind: EventKind, message: str) -> bool:
    conditions = (Event.schedule == schedule, Event.kind == kind.value, Event.scheduled_at.is_(None))
    query = select(Event.message).where(*conditions).order_by(Event.id.desc()).limit(1)
    return connection.scalar(query) == message


def _log_on_commit(
    connection: Connection,
    schedule: str,
    scheduled_at: datetime | None,
    kind: EventKind,
    error_code: str | None,
    message: str,
) -> None:
    fields = {"schedule": schedule, "scheduled_at": scheduled_at.isoformat() if scheduled_at else None}
    if error_code is not None:
        fields |= {"error_code": error_code, "error": message.removeprefix(f"{error_code}: ")}
    is_rolled_back = False

    def log_event(_connection: Connection) -> None:
        if not is_rolled_back:
            getattr(log, kind.log_level)(f"schedule.{kind.value}", **fields)

    def discard(_connection: Connection) -> None:
        nonlocal is_rolled_back
        is_rolled_back = True  # the connection may commit something else later

    event.listen(connection, "rollback", discard, once=True)
    event.listen(connection, "commit", log_event, once=True)


_EVENT_COLUMNS = (
    Event.id,
    Event.schedule,
    Event.scheduled_at,
    Event.kind,
    Event.message,
    Event.occurred_at,
    Event.delivered_at,
    Event.webhook_url.is_not(None),
    Event.next_delivery_at,
)
