"""The registry: schedules made, changed, suspended and taken away."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from models.db import Database, Fragments
from models.errors import NotFound, UsageError
from models.lifecycle import termination
from models.schedule_tables import Schedule as ScheduleRow
from models.states import BatchStatus, Ending
from producer.schedules.definition import Schedule

LOCK = "SELECT name FROM schedules WHERE name = :name {for_update}"

UNREAD = """
SELECT r.batch_id FROM runs r JOIN batches b ON b.id = r.batch_id
WHERE r.schedule = :name AND r.look_at IS NOT NULL AND b.status = 'validating'
"""


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule as it stands. All moments are in UTC."""

    definition: Schedule
    declared: bool
    suspended_at: datetime | None
    decided_at: datetime
    next_at: datetime | None
    watermark: datetime | None
    created_at: datetime

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name


def create(
    database: Database, definition: Schedule, at: datetime, *, declared: bool = False, replace: bool = False
) -> None:
    """Add a schedule, whose first slot is the next one from `at` on; raises UsageError where there is one by its name.

    With `replace` that one is changed instead: its history and watermark stay.
    """
    with database.write() as connection:
        if replace and _exists(connection, database.sql, definition.name):
            _change(connection, definition, at, declared)
            return
        values = {
            "name": definition.name, "definition": definition.stored(), "declared": declared, "decided_at": at,
            "next_at": next(definition.times.after(at), None),
        }  # fmt: skip
        try:
            connection.execute(insert(ScheduleRow.__table__).values(values))  # type: ignore[arg-type]
        except IntegrityError:
            raise UsageError(
                f"there is a schedule {definition.name} already; change it with --replace, or take another name"
            ) from None


def get(database: Database, name: str) -> ScheduleView:
    """One schedule; raises NotFound."""
    with database.read() as connection:
        row = connection.execute(select(ScheduleRow.__table__).where(ScheduleRow.name == name)).one_or_none()
    if row is None:
        raise _unknown(name)
    return _view(row)


def listed(database: Database) -> list[ScheduleView]:
    """All schedules by name."""
    with database.read() as connection:
        return [_view(row) for row in connection.execute(select(ScheduleRow.__table__).order_by(ScheduleRow.name))]


def suspend(database: Database, name: str, at: datetime) -> None:
    """Let no slot come until it is resumed; what runs goes on. Raises NotFound."""
    with database.write() as connection:
        lock(connection, database.sql, name)
        connection.execute(_update(name).values(suspended_at=at, next_at=None))


def resume(database: Database, name: str, at: datetime) -> datetime | None:
    """Go on with the next slot from `at` on, which is returned; those in between are not caught up. Raises NotFound."""
    definition = get(database, name).definition
    with database.write() as connection:
        lock(connection, database.sql, name)
        next_at = next(definition.times.after(at), None)
        connection.execute(_update(name).values(suspended_at=None, decided_at=at, next_at=next_at))
    return next_at


def delete(database: Database, name: str) -> None:
    """Take a schedule away with its history; batches that run go on as any other. Raises NotFound."""
    with database.write() as connection:
        lock(connection, database.sql, name)
        unread = connection.scalars(text(UNREAD), {"name": name}).all()
        connection.execute(text("DELETE FROM schedules WHERE name = :name"), {"name": name})
    for batch_id in unread:
        termination.end(database, batch_id, Ending.CANCELLED, None, None, of=(BatchStatus.VALIDATING,))


def sync(database: Database, wanted: Mapping[str, Schedule], at: datetime) -> list[tuple[str, str]]:
    """Make the declared schedules be these: what was done to which, as (`created`, NAME) and so on.

    Those made by hand stay; one that has a declared one's name becomes a declared one.
    """
    there = {view.name: view for view in listed(database)}
    done = []
    for name, definition in wanted.items():
        before = there.get(name)
        if before is None:
            create(database, definition, at, declared=True)
            done.append(("created", name))
        elif before.definition != definition or not before.declared:
            create(database, definition, at, declared=True, replace=True)
            done.append(("changed", name))
    for name, view in there.items():
        if view.declared and name not in wanted:
            delete(database, name)
            done.append(("deleted", name))
    return done


def _change(connection: Connection, definition: Schedule, at: datetime, declared: bool) -> None:
    row = connection.execute(select(ScheduleRow.__table__).where(ScheduleRow.name == definition.name)).one()
    before = _view(row)
    changed: dict[str, Any] = {"definition": definition.stored(), "declared": declared}
    if before.definition.times != definition.times:  # what the old times left undecided is nothing of the new ones'
        changed |= {"decided_at": at, "next_at": next(definition.times.after(at), None)}
        if before.suspended_at is not None:
            changed["next_at"] = None
    connection.execute(_update(definition.name).values(changed))


def _exists(connection: Connection, sql: Fragments, name: str) -> bool:
    query = text(LOCK.format(for_update=sql.for_update))
    return connection.scalar(query, {"name": name}) is not None


def lock(connection: Connection, sql: Fragments, name: str) -> None:
    """Lock a schedule's row, which comes before its runs; raises NotFound."""
    if not _exists(connection, sql, name):
        raise _unknown(name)


def _update(name: str) -> Any:
    return update(ScheduleRow.__table__).where(ScheduleRow.__table__.c.name == name)  # type: ignore[arg-type]


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no schedule {name[:80]!r}; see which there are: batchmill schedule ls")


def _view(row: Row[Any]) -> ScheduleView:
    return ScheduleView(
        Schedule.of(row.name, row.definition), row.declared, row.suspended_at, row.decided_at, row.next_at,
        row.watermark, row.created_at,
    )  # fmt: skip
