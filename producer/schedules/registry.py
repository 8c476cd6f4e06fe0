"""The registry, which creates, changes, suspends and deletes schedules."""

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
WHERE r.schedule = :name AND r.next_check_at IS NOT NULL AND b.status = 'validating'
"""


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """The stored state of a schedule; all times are in UTC."""

    definition: ScheduleDefinition
    from_config: bool
    suspended_at: datetime | None
    evaluated_until: datetime
    next_run_at: datetime | None
    watermark: datetime | None
    created_at: datetime

    @property
    def name(self) -> str:
        """The schedule's name."""
        return self.definition.name


def create(
    database: Database,
    definition: ScheduleDefinition,
    now: datetime,
    *,
    from_config: bool = False,
    replace: bool = False,
) -> None:
    """Add a schedule that first runs at its next time after `now`; raises UsageError if the name is taken.

    database: our database
    definition: the schedule
    now: time of the call
    from_config: whether it comes from batchmill.toml, so that `sync` may delete it
    replace: change an existing schedule of that name instead; its history and watermark stay
    """
    with database.write() as connection:
        if replace and lock_if_exists(connection, database.sql, definition.name):
            _replace_definition(connection, definition, now, from_config)
            return
        values = {
            "name": definition.name,
            "definition": definition.dump(),
            "from_config": from_config,
            "evaluated_until": now,
            "next_run_at": next(definition.timetable.times_after(now), None),
        }
        try:
            connection.execute(insert(ScheduleRow.__table__).values(values))  # type: ignore[arg-type]
        except IntegrityError:
            raise UsageError(
                f"there is a schedule {definition.name} already; change it with --replace, or take another name"
            ) from None


def get(database: Database, name: str) -> ScheduleView:
    """Return one schedule; raises NotFound."""
    with database.read() as connection:
        row = connection.execute(select(ScheduleRow.__table__).where(ScheduleRow.name == name)).one_or_none()
    if row is None:
        raise _not_found(name)
    return _view_from_row(row)


def list_schedules(database: Database) -> list[ScheduleView]:
    """Return all schedules, by name."""
    with database.read() as connection:
        return [
            _view_from_row(row) for row in connection.execute(select(ScheduleRow.__table__).order_by(ScheduleRow.name))
        ]


def suspend(database: Database, name: str, now: datetime) -> None:
    """Plan no runs until the schedule is resumed; open runs continue. Raises NotFound."""
    with database.write() as connection:
        lock_schedule(connection, database.sql, name)
        connection.execute(_update_statement(name).values(suspended_at=now, next_run_at=None))


def resume(database: Database, name: str, now: datetime) -> datetime | None:
    """Resume from the next time after `now` and return it; earlier times are not caught up. Raises NotFound."""
    definition = get(database, name).definition
    with database.write() as connection:
        lock_schedule(connection, database.sql, name)
        next_run_at = next(definition.timetable.times_after(now), None)
        connection.execute(
            _update_statement(name).values(suspended_at=None, evaluated_until=now, next_run_at=next_run_at)
        )
    return next_run_at


def delete(database: Database, name: str) -> None:
    """Delete a schedule with its history; batches that are in progress continue. Raises NotFound."""
    with database.write() as connection:
        lock_schedule(connection, database.sql, name)
        unread = connection.scalars(text(SELECT_UNREAD_BATCHES), {"name": name}).all()
        connection.execute(text("DELETE FROM schedules WHERE name = :name"), {"name": name})
    for batch_id in unread:
        termination.terminate(
            database, batch_id, Termination.CANCELLED, None, None, from_statuses=(BatchStatus.VALIDATING,)
        )


def sync(database: Database, definitions: Mapping[str, ScheduleDefinition], now: datetime) -> list[tuple[str, str]]:
    """Make the schedules from batchmill.toml equal to `definitions`; return pairs such as (`created`, NAME).

    Schedules created by hand stay. One with the same name as an entry of batchmill.toml follows that entry from now on.
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
    previous = _view_from_row(row)
    values: dict[str, Any] = {"definition": definition.dump(), "from_config": from_config}
    if (
        previous.definition.timetable != definition.timetable
    ):  # undecided times of the old timetable do not apply to the new one
        values |= {"evaluated_until": now, "next_run_at": next(definition.timetable.times_after(now), None)}
        if previous.suspended_at is not None:
            values["next_run_at"] = None
    connection.execute(_update_statement(definition.name).values(values))


def lock_if_exists(connection: Connection, sql: SqlFragments, name: str) -> bool:
    """Lock a schedule's row, which precedes its runs in the lock order; return False if there is none."""
    query = text(LOCK_SCHEDULE.format(for_update=sql.for_update))
    return connection.scalar(query, {"name": name}) is not None


def lock_schedule(connection: Connection, sql: SqlFragments, name: str) -> None:
    """Lock a schedule's row; raises NotFound."""
    if not lock_if_exists(connection, sql, name):
        raise _not_found(name)


def _update_statement(name: str) -> Any:
    return update(ScheduleRow.__table__).where(ScheduleRow.__table__.c.name == name)  # type: ignore[arg-type]


def _not_found(name: str) -> NotFound:
    return NotFound(f"there is no schedule {name[:80]!r}; see which there are: batchmill schedule ls")


def _view_from_row(row: Row[Any]) -> ScheduleView:
    return ScheduleView(
        ScheduleDefinition.from_fields(row.name, row.definition),
        row.from_config,
        row.suspended_at,
        row.evaluated_until,
        row.next_run_at,
        row.watermark,
        row.created_at,
    )
