"""Events: what a person should hear of a schedule, each once: in SQL, in the log, and to a webhook if there is one."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import Connection, event, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from models.db import SQL_FRAGMENTS, Database
from models.schedule_tables import Event
from producer.readers.storable import make_storable
from producer.results.pages import format_timestamp

log = structlog.get_logger(__name__)


class EventKind(StrEnum):
    """What happened; programs compare these."""

    MISSED = "missed"  # nobody was there when it was due
    SKIPPED = "skipped"  # the run before was still at it
    FAILED = "failed"
    LATE = "late"  # it will hardly be done by its deadline
    OVERDUE = "overdue"  # it was not done by its deadline
    WAITING = "waiting"  # its source is not there
    DRIFT = "drift"  # its results are far from those before
    MODEL_CHANGED = "model_changed"
    RECOVERED = "recovered"  # the first good run after one that was not

    @property
    def log_level(self) -> str:
        """How loudly the log says it."""
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
    delivered_at: datetime | None  # to its webhook

    def as_dict(self) -> dict[str, Any]:
        """As it is printed; these names stay."""
        moments = {
            name: moment and format_timestamp(moment)
            for name, moment in (("at", self.occurred_at), ("sent_at", self.delivered_at))
        }
        slot = self.scheduled_at and format_timestamp(self.scheduled_at)
        return {"schedule": self.schedule, "slot": slot, "kind": self.kind, "message": self.message, **moments}


def record_event(
    connection: Connection,
    schedule: str,
    scheduled_at: datetime | None,
    kind: str,
    message: str,
    *,
    occurred_at: datetime,
    url: str | None = None,
) -> bool:
    """Write down an event, once for each schedule, slot and kind; one without a slot, once until its message changes.

    Returns whether it is news. Then it is logged when the caller's transaction commits, and with a URL sent there soon.
    """
    known, message = EventKind(kind), make_storable(message)
    if scheduled_at is None and _repeats_newest(connection, schedule, known, message):
        return False  # the unique index takes no two NULLs for the same
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    values = {
        "schedule": schedule,
        "slot": scheduled_at,
        "kind": known.value,
        "message": message,
        "at": occurred_at,
        "url": url,
        "send_at": text(SQL_FRAGMENTS[connection.dialect.name].now) if url else None,
    }
    statement = dialect.insert(Event.__table__).values(values).on_conflict_do_nothing().returning(Event.id)
    if connection.scalar(statement) is None:
        return False
    _log_on_commit(connection, schedule, scheduled_at, known)
    return True


def list_newest(
    database: Database, schedule: str | None = None, limit: int = 20, *, scheduled_at: datetime | None = None
) -> list[EventView]:
    """The newest events of a schedule, or of all, the newest first; with `slot`, those of that slot alone."""
    query = select(*_EVENT_COLUMNS).order_by(Event.id.desc()).limit(limit)
    if scheduled_at is not None:
        query = query.where(Event.slot == scheduled_at)
    if schedule is not None:
        query = query.where(Event.schedule == schedule)
    with database.read() as connection:
        return [EventView(*row) for row in connection.execute(query)]


def count_undelivered(database: Database, since: datetime) -> dict[str, int]:
    """How many events from this moment on no webhook took, by schedule."""
    unsent = (Event.url.is_not(None), Event.sent_at.is_(None), Event.send_at.is_(None), Event.at >= since)
    query = select(Event.schedule, func.count()).where(*unsent).group_by(Event.schedule).order_by(Event.schedule)
    with database.read() as connection:
        return {row.schedule: row[1] for row in connection.execute(query)}


def _repeats_newest(connection: Connection, schedule: str, kind: EventKind, message: str) -> bool:
    here = (Event.schedule == schedule, Event.kind == kind.value, Event.slot.is_(None))
    query = select(Event.message).where(*here).order_by(Event.id.desc()).limit(1)
    return connection.scalar(query) == message


def _log_on_commit(connection: Connection, schedule: str, scheduled_at: datetime | None, kind: EventKind) -> None:
    """Names and moments, never the message, which may quote labels."""
    undone = False

    def committed(_connection: Connection) -> None:
        if not undone:
            say = getattr(log, kind.log_level)
            say(f"schedule.{kind.value}", schedule=schedule, slot=scheduled_at.isoformat() if scheduled_at else None)

    def rolled_back(_connection: Connection) -> None:
        nonlocal undone
        undone = True  # the connection may go on to commit something else

    event.listen(connection, "rollback", rolled_back, once=True)
    event.listen(connection, "commit", committed, once=True)


_EVENT_COLUMNS = (Event.id, Event.schedule, Event.slot, Event.kind, Event.message, Event.at, Event.sent_at)
