"""The registry, which creates, changes, suspends and deletes schedules.

A deleted schedule keeps its watermark and its runs, so that one created again under its name continues where it ended.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, literal, select, text, update
from sqlalchemy.exc import IntegrityError

from models.db import Database
from models.dialects.columns import Key, UtcDateTime
from models.dialects.fragments import SqlFragments
from models.errors import NotFound, UsageError
from models.lifecycle import termination
from models.states import BatchStatus, Termination
from models.tables.schedules import Schedule as ScheduleRow
from producer.advice import LIST_SCHEDULES
from producer.schedules import chains
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.schedule_view import ScheduleView, view_from_row
from producer.times import format_local

LOCK_SCHEDULE = "SELECT name, deleted_at FROM schedules WHERE name = :name {for_update}"

SELECT_UNREAD_BATCHES = """
SELECT r.batch_id FROM runs r JOIN batches b ON b.id = r.batch_id
WHERE r.schedule = :name AND r.next_check_at IS NOT NULL AND b.status = 'validating'
"""

# A run that follows another, and whose batch was not opened yet.
FAIL_UNOPENED_RUNS = """
UPDATE runs SET state = 'failed', finished_at = :now, next_check_at = NULL, error_code = 'cancelled',
       error_message = 'the schedule was deleted'
WHERE schedule = :name AND batch_id IS NULL AND next_check_at IS NOT NULL
"""

SELECT_AFTER = """
SELECT name, tenant, definition ->> 'after' AS after FROM schedules WHERE deleted_at IS NULL ORDER BY name
"""


def create(
    database: Database,
    definition: ScheduleDefinition,
    now: datetime,
    *,
    from_config: bool = False,
    replace: bool = False,
) -> ScheduleView:
    """Add a schedule that first runs at its next time after `now`.

    Raises UsageError if the name is taken, also by a deleted schedule of another tenant, or if it follows a schedule
    that its tenant does not have, or in the end itself.

    A deleted schedule of that name comes back with its history, and reads on from its watermark. Returns the schedule.

    database: our database
    definition: the schedule
    now: time of the call
    from_config: whether it comes from batchmill.toml, so that `sync` may delete it
    replace: change an existing schedule of that name instead; its history and watermark stay
    """
    name = definition.name
    with database.write() as connection:
        if definition.after is not None:  # lock order: the schedule that is followed before those that follow it
            lock_if_exists(connection, database.sql, definition.after)
        exists = lock_if_exists(connection, database.sql, name)
        chains.check_chain(name, {**select_after(connection, definition.tenant), name: definition.after})
        previous = _find_row(connection, name) if exists else None
        if previous is not None and previous.tenant != definition.tenant:
            raise UsageError(
                f"the schedule {name} and its history belong to the tenant {previous.tenant}; take another name, or "
                f"delete it first: batchmill schedule delete {name} --purge"
            )
        values = _values_for(definition, now, previous) | {"from_config": from_config}
        if previous is not None and (replace or previous.deleted_at is not None):
            connection.execute(_update_statement(name).values(values))
        else:
            try:
                connection.execute(insert(ScheduleRow.__table__).values(name=name, **values))  # type: ignore[arg-type]
            except IntegrityError:  # also where another process was faster
                raise UsageError(
                    f"there is a schedule {name} already; change it with --replace, or take another name"
                ) from None
        return view_from_row(connection.execute(_select_row(name)).one())


def get(database: Database, name: str, tenant: str | None = None) -> ScheduleView:
    """Return one schedule; raises NotFound.

    tenant: to whom it must belong; None = to anybody
    """
    with database.read() as connection:
        row = _find_row(connection, name)
    if row is not None and tenant is not None and row.tenant != tenant:
        raise _not_found(name)
    if row is None or row.deleted_at is not None:
        raise _not_found(name, None if row is None else row.deleted_at)
    return view_from_row(row)


def list_schedules(database: Database, tenant: str | None = None, without: Collection[str] = ()) -> list[ScheduleView]:
    """Return all schedules except deleted ones, by name; raises UsageError if this version can't read one.

    tenant: to whom they belong; None = to anybody
    without: names of some that are left out
    """
    query = select(ScheduleRow.__table__).where(ScheduleRow.deleted_at.is_(None)).order_by(ScheduleRow.name)
    if tenant is not None:
        query = query.where(ScheduleRow.tenant == tenant)
    with database.read() as connection:
        return [view_from_row(row) for row in connection.execute(query) if row.name not in without]


def list_deleted(database: Database, tenant: str | None = None) -> dict[str, datetime]:
    """Return when each deleted schedule was deleted, by name; they keep their history until they are purged.

    tenant: to whom they belong; None = to anybody
    """
    query = select(ScheduleRow.name, ScheduleRow.deleted_at).where(ScheduleRow.deleted_at.is_not(None))
    if tenant is not None:
        query = query.where(ScheduleRow.tenant == tenant)
    with database.read() as connection:
        return {row.name: row.deleted_at for row in connection.execute(query.order_by(ScheduleRow.name))}


def list_followers(database: Database, name: str) -> list[str]:
    """Return the names of the schedules that run after another one."""
    with database.read() as connection:
        return [other for other, after in select_after(connection).items() if after == name]


def suspend(database: Database, name: str, now: datetime) -> None:
    """Plan no runs until the schedule is resumed; open runs continue. Raises NotFound.

    One that is suspended already stays as it is.
    """
    with database.write() as connection:
        lock_schedule(connection, database.sql, name)
        suspended_at = func.coalesce(ScheduleRow.suspended_at, literal(now, UtcDateTime()))
        connection.execute(_update_statement(name).values(suspended_at=suspended_at, next_run_at=None))


def resume(database: Database, name: str, now: datetime) -> datetime | None:
    """Resume from the next time after `now` and return it; earlier times are not caught up. Raises NotFound.

    One that is not suspended keeps the times that are due.
    """
    definition = get(database, name).definition
    with database.write() as connection:
        lock_schedule(connection, database.sql, name)
        stored = connection.execute(_select_row(name)).one()
        if stored.suspended_at is None:
            next_due: datetime | None = stored.next_run_at
            return next_due
        next_run_at = next(definition.timetable.times_after(now), None)
        connection.execute(
            _update_statement(name).values(suspended_at=None, evaluated_until=now, next_run_at=next_run_at)
        )
    return next_run_at


def delete(database: Database, name: str, now: datetime, *, purge: bool = False) -> None:
    """Delete a schedule; runs whose rows are read go on, and end as usual.

    Raises NotFound, and UsageError if another schedule runs after it.

    database: our database
    name: name of the schedule, which may be deleted already if `purge` is set
    now: time of the call
    purge: delete its watermark and its history too, so that a new schedule of this name starts over
    """
    with database.write() as connection:
        if not purge:
            lock_schedule(connection, database.sql, name)
        elif not lock_if_exists(connection, database.sql, name):
            raise _not_found(name)
        if followers := [other for other, after in select_after(connection).items() if after == name]:
            raise UsageError(
                f"{' and '.join(followers)} run after {name}; delete them first, or let them run after another schedule"
            )
        unread_batches = connection.scalars(text(SELECT_UNREAD_BATCHES), {"name": name}).all()
        if purge:
            connection.execute(text("DELETE FROM schedules WHERE name = :name"), {"name": name})
        else:
            connection.execute(_update_statement(name).values(deleted_at=now, next_run_at=None))
            statement = text(FAIL_UNOPENED_RUNS).bindparams(bindparam("now", type_=UtcDateTime()))
            connection.execute(statement, {"name": name, "now": now})
    for batch_id in unread_batches:
        termination.terminate(
            database, batch_id, Termination.CANCELLED, None, None, from_statuses=(BatchStatus.VALIDATING,)
        )


def _values_for(definition: ScheduleDefinition, now: datetime, previous: Row[Any] | None) -> dict[str, Any]:
    """Return the columns of a schedule that is new, changed, or comes back.

    The previous definition is not parsed, because this version may not accept it.
    """
    values: dict[str, Any] = {"definition": definition.dump(), "tenant": definition.tenant}
    is_new = previous is None or previous.deleted_at is not None
    timetable = None if previous is None else (previous.definition.get("cron"), previous.definition.get("tz", "UTC"))
    if is_new or timetable != (definition.cron, definition.tz):
        # Undecided times of an earlier timetable do not apply to the new one.
        values |= {"evaluated_until": now, "next_run_at": next(definition.timetable.times_after(now), None)}
    if is_new:
        values |= {"suspended_at": None, "deleted_at": None}
    elif previous is not None and previous.suspended_at is not None:
        values["next_run_at"] = None
    return values


def select_after(connection: Connection, tenant: str | None = None) -> dict[str, str | None]:
    """Return the schedule that each one follows, for all that are not deleted.

    tenant: to whom they belong; None = to anybody
    """
    rows = connection.execute(text(SELECT_AFTER))
    return {row.name: row.after for row in rows if tenant in (None, row.tenant)}


def _select_row(name: str) -> Select[Any]:
    return select(ScheduleRow.__table__).where(ScheduleRow.name == name)


def _find_row(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(_select_row(name)).one_or_none()


def lock_if_exists(connection: Connection, sql: SqlFragments, name: str) -> bool:
    """Lock a schedule's row, which precedes its runs in the lock order; return False if there is none."""
    return _lock_row(connection, sql, name) is not None


def lock_schedule(connection: Connection, sql: SqlFragments, name: str) -> None:
    """Lock a schedule's row; raises NotFound, also for a deleted schedule."""
    row = _lock_row(connection, sql, name)
    if row is None or row.deleted_at is not None:
        raise _not_found(name, None if row is None else row.deleted_at)


def _lock_row(connection: Connection, sql: SqlFragments, name: str) -> Row[Any] | None:
    query = text(LOCK_SCHEDULE.format(for_update=sql.for_update)).columns(name=Key, deleted_at=UtcDateTime())
    return connection.execute(query, {"name": name}).one_or_none()


def _update_statement(name: str) -> Any:
    return update(ScheduleRow.__table__).where(ScheduleRow.__table__.c.name == name)  # type: ignore[arg-type]


def _not_found(name: str, deleted_at: datetime | None = None) -> NotFound:
    if deleted_at is not None:
        return NotFound(
            f"schedule {name} was deleted at {format_local(deleted_at)}; created again, it takes up its history"
        )
    return NotFound(f"there is no schedule {name[:80]!r}; " + LIST_SCHEDULES)
