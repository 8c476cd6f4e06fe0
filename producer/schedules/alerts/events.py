"""Events: what a person should hear of a schedule, each once: in SQL, in the log, and to a webhook if there is one."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import Connection, event, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from models.db import FRAGMENTS, Database
from models.schedule_tables import Event
from producer.readers.storable import storable
from producer.results.pages import iso

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
class EventView:
    """One event as it is stored."""

    id: int
    schedule: str
    slot: datetime | None
    kind: str
    message: str
    at: datetime
    sent_at: datetime | None  # to its webhook

    def as_dict(self) -> dict[str, Any]:
        """As it is printed; these names stay."""
        moments = {name: moment and iso(moment) for name, moment in (("at", self.at), ("sent_at", self.sent_at))}
        slot = self.slot and iso(self.slot)
        return {"schedule": self.schedule, "slot": slot, "kind": self.kind, "message": self.message, **moments}


def note(
    connection: Connection, schedule: str, slot: datetime | None, kind: str, message: str, *, at: datetime,
    url: str | None = None,
) -> bool:  # fmt: skip
    """Write down an event, once for each schedule, slot and kind; one without a slot, once until its message changes.

    Returns whether it is news. Then it is logged when the caller's transaction commits, and with a URL sent there soon.
    """
    known, message = Kind(kind), storable(message)
    if slot is None and _is_newest(connection, schedule, known, message):
        return False  # the unique index takes no two NULLs for the same
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    values = {
        "schedule": schedule, "slot": slot, "kind": known.value, "message": message, "at": at, "url": url,
        "send_at": text(FRAGMENTS[connection.dialect.name].now) if url else None,
    }  # fmt: skip
    statement = dialect.insert(Event.__table__).values(values).on_conflict_do_nothing().returning(Event.id)
    if connection.scalar(statement) is None:
        return False
    _log_at_commit(connection, schedule, slot, known)
    return True


def newest(
    database: Database, schedule: str | None = None, limit: int = 20, *, slot: datetime | None = None
) -> list[EventView]:
    """The newest events of a schedule, or of all, the newest first; with `slot`, those of that slot alone."""
    query = select(*_COLUMNS).order_by(Event.id.desc()).limit(limit)
    if slot is not None:
        query = query.where(Event.slot == slot)
    if schedule is not None:
        query = query.where(Event.schedule == schedule)
    with database.read() as connection:
        return [EventView(*row) for row in connection.execute(query)]


def given_up(database: Database, since: datetime) -> dict[str, int]:
    """How many events from this moment on no webhook took, by schedule."""
    unsent = (Event.url.is_not(None), Event.sent_at.is_(None), Event.send_at.is_(None), Event.at >= since)
    query = select(Event.schedule, func.count()).where(*unsent).group_by(Event.schedule).order_by(Event.schedule)
    with database.read() as connection:
        return {row.schedule: row[1] for row in connection.execute(query)}


def _is_newest(connection: Connection, schedule: str, kind: Kind, message: str) -> bool:
    here = (Event.schedule == schedule, Event.kind == kind.value, Event.slot.is_(None))
    query = select(Event.message).where(*here).order_by(Event.id.desc()).limit(1)
    return connection.scalar(query) == message


def _log_at_commit(connection: Connection, schedule: str, slot: datetime | None, kind: Kind) -> None:
    """Names and moments, never the message, which may quote labels."""
    undone = False

    def committed(_connection: Connection) -> None:
        if not undone:
            say = getattr(log, kind.level)
            say(f"schedule.{kind.value}", schedule=schedule, slot=slot.isoformat() if slot else None)

    def rolled_back(_connection: Connection) -> None:
        nonlocal undone
        undone = True  # the connection may go on to commit something else

    event.listen(connection, "rollback", rolled_back, once=True)
    event.listen(connection, "commit", committed, once=True)


_COLUMNS = (Event.id, Event.schedule, Event.slot, Event.kind, Event.message, Event.at, Event.sent_at)
