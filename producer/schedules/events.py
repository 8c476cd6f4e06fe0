"""Events: what a person should hear of a schedule, each once: in SQL, in the log, and to a webhook if there is one."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog
from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import postgresql, sqlite

from models.db import Database, Fragments
from models.schedule_tables import Event

log = structlog.get_logger(__name__)


class Kind(StrEnum):
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
    def level(self) -> str:
        """How loudly the log says it."""
        if self in (Kind.MISSED, Kind.FAILED, Kind.OVERDUE):
            return "error"
        return "info" if self is Kind.RECOVERED else "warning"


@dataclass(frozen=True, slots=True)
class Told:
    """One event as it is stored."""

    id: int
    schedule: str
    slot: datetime | None
    kind: str
    message: str
    at: datetime
    url: str | None
    tries: int
    sent_at: datetime | None  # to its webhook


def note(
    connection: Connection, sql: Fragments, schedule: str, slot: datetime | None, kind: Kind, message: str,
    at: datetime, url: str | None = None,
) -> Told | None:  # fmt: skip
    """Write down an event, once for each schedule, slot and kind; one without a slot, once until its message changes.

    Returns it, to be given to `tell` after the commit, or None where it is known. With a URL it will be sent there.
    """
    if slot is None and _is_newest(connection, schedule, kind, message):
        return None  # the unique index takes no two NULLs for the same
    values = {
        "schedule": schedule, "slot": slot, "kind": kind.value, "message": message, "at": at, "url": url,
        "send_at": text(sql.now) if url else None,
    }  # fmt: skip
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(Event.__table__).values(values).on_conflict_do_nothing()
    id_ = connection.scalar(statement.returning(Event.id))
    return None if id_ is None else Told(id_, schedule, slot, kind.value, message, at, url, 0, None)


def tell(noted: Iterable[Told | None]) -> None:
    """Log what was noted, once it is committed; names and moments, never messages, which may quote labels."""
    for event in noted:
        if event is not None:
            slot = event.slot.isoformat() if event.slot else None
            getattr(log, Kind(event.kind).level)(f"schedule.{event.kind}", schedule=event.schedule, slot=slot)


def newest(database: Database, schedule: str | None = None, limit: int = 20) -> list[Told]:
    """The newest events of a schedule, or of all, the newest first."""
    query = select(*_COLUMNS).order_by(Event.id.desc()).limit(limit)
    if schedule is not None:
        query = query.where(Event.schedule == schedule)
    with database.read() as connection:
        return [Told(*row) for row in connection.execute(query)]


def _is_newest(connection: Connection, schedule: str, kind: Kind, message: str) -> bool:
    here = (Event.schedule == schedule, Event.kind == kind.value, Event.slot.is_(None))
    query = select(Event.message).where(*here).order_by(Event.id.desc()).limit(1)
    return connection.scalar(query) == message


_COLUMNS = (
    Event.id, Event.schedule, Event.slot, Event.kind, Event.message, Event.at, Event.url, Event.tries, Event.sent_at,
)  # fmt: skip
