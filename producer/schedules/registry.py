"""The registry: schedules made, changed, suspended and taken away."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from models.db import Database, SqlFragments
from models.errors import NotFound, UsageError
from models.lifecycle import termination
from models.schedule_tables import Schedule as ScheduleRow
from models.states import BatchStatus, Termination
from producer.schedules.definition import ScheduleDefinition

LOCK_SCHEDULE = "SELECT name FROM schedules WHERE name = :name {for_update}"

SELECT_UNREAD_BATCHES = """
SELECT r.batch_id FROM runs r JOIN batches b ON b.id = r.batch_id
WHERE r.schedule = :name AND r.look_at IS NOT NULL AND b.status = 'validating'
"""


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule as it stands. All moments are in UTC."""

    definition: ScheduleDefinition
    from_config: bool
    suspended_at: datetime | None
    evaluated_until: datetime
    next_at: datetime | None
    watermark: datetime | None
    created_at: datetime

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name


def create(
    database: Database,
    definition: ScheduleDefinition,
    now: datetime,
    *,
    from_config: bool = False,
    replace: bool = False,
) -> None:
    """Add a schedule, whose first slot is the next one from `at` on; raises UsageError where there is one by its name.

    With `replace` that one is changed instead: its history and watermark stay.
    """
    with database.write() as connection:
        if replace and _lock_if_exists(connection, database.sql, definition.name):
            _replace_definition(connection, definition, now, from_config)
            return
        values = {
            "name": definition.name,
            "definition": definition.dump(),
            "declared": from_config,
            "decided_at": now,
            "next_at": next(definition.timetable.times_after(now), None),
        }
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
        raise _not_found(name)
    return _view_from_row(row)


def list_schedules(database: Database) -> list[ScheduleView]:
    """All schedules by name."""
    with database.read() as connection:
        return [
            _view_from_row(row) for row in connection.execute(select(ScheduleRow.__table__).order_by(ScheduleRow.name))
        ]


def suspend(database: Database, name: str, now: datetime) -> None:
    """Let no slot come until it is resumed; what runs goes on. Raises NotFound."""
    with database.write() as connection:
        lock_schedule(connection, database.sql, name)
        connection.execute(_update_statement(name).values(suspended_at=now, next_at=None))


def resume(database: Database, name: str, now: datetime) -> datetime | None:
    """Go on with the next slot from `at` on, which is returned; those in between are not caught up. Raises NotFound."""
    definition = get(database, name).definition
    with database.write() as connection:
        lock_schedule(connection, database.sql, name)
        next_at = next(definition.timetable.times_after(now), None)
        connection.execute(_update_statement(name).values(suspended_at=None, decided_at=now, next_at=next_at))
    return next_at


def delete(database: Database, name: str) -> None:
    """Take a schedule away with its history; batches that run go on as any other. Raises NotFound."""
    with database.write() as connection:
        lock_schedule(connection, database.sql, name)
        unread = connection.scalars(text(SELECT_UNREAD_BATCHES), {"name": name}).all()
        connection.execute(text("DELETE FROM schedules WHERE name = :name"), {"name": name})
    for batch_id in unread:
        termination.terminate(
            database, batch_id, Termination.CANCELLED, None, None, from_statuses=(BatchStatus.VALIDATING,)
        )


def sync(database: Database, definitions: Mapping[str, ScheduleDefinition], now: datetime) -> list[tuple[str, str]]:
    """Make the declared schedules be these: what was done to which, as (`created`, NAME) and so on.

    Those made by hand stay; one that has a declared one's name becomes a declared one.
    """
    there = {view.name: view for view in list_schedules(database)}
    done = []
    for name, definition in definitions.items():
        before = there.get(name)
        if before is None:
            create(database, definition, now, from_config=True)
            done.append(("created", name))
        elif before.definition != definition or not before.from_config:
            create(database, definition, now, from_config=True, replace=True)
            done.append(("changed", name))
    for name, view in there.items():
        if view.from_config and name not in definitions:
            delete(database, name)
            done.append(("deleted", name))
    return done


def _replace_definition(
    connection: Connection, definition: ScheduleDefinition, now: datetime, from_config: bool
) -> None:
    row = connection.execute(select(ScheduleRow.__table__).where(ScheduleRow.name == definition.name)).one()
    before = _view_from_row(row)
    changed: dict[str, Any] = {"definition": definition.dump(), "declared": from_config}
    if (
        before.definition.timetable != definition.timetable
    ):  # what the old times left undecided is nothing of the new ones'
        changed |= {"decided_at": now, "next_at": next(definition.timetable.times_after(now), None)}
        if before.suspended_at is not None:
            changed["next_at"] = None
    connection.execute(_update_statement(definition.name).values(changed))


def _lock_if_exists(connection: Connection, sql: SqlFragments, name: str) -> bool:
    query = text(LOCK_SCHEDULE.format(for_update=sql.for_update))
    return connection.scalar(query, {"name": name}) is not None


def lock_schedule(connection: Connection, sql: SqlFragments, name: str) -> None:
    """Lock a schedule's row, which comes before its runs; raises NotFound."""
    if not _lock_if_exists(connection, sql, name):
        raise _not_found(name)


def _update_statement(name: str) -> Any:
    return update(ScheduleRow.__table__).where(ScheduleRow.__table__.c.name == name)  # type: ignore[arg-type]


def _not_found(name: str) -> NotFound:
    return NotFound(f"there is no schedule {name[:80]!r}; see which there are: batchmill schedule ls")


def _view_from_row(row: Row[Any]) -> ScheduleView:
    return ScheduleView(
        ScheduleDefinition.from_fields(row.name, row.definition),
        row.declared,
        row.suspended_at,
        row.decided_at,
        row.next_at,
        row.watermark,
        row.created_at,
    )
