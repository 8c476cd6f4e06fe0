"""Schedules of batchmill.toml: what differs from those in the database, and making them equal."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text

from models.db import Database
from models.errors import NotFound, UsageError
from models.tables.schedules import Schedule as ScheduleRow
from producer.schedules import chains
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.registry import SELECT_AFTER, create, delete, select_after


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The names of the schedules that a sync creates, restores and changes, and of those that batchmill.toml lacks."""

    created: tuple[str, ...]
    restored: tuple[str, ...]
    changed: tuple[str, ...]
    undeclared: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether the schedules differ from those in batchmill.toml."""
        return bool(self.created or self.restored or self.changed or self.undeclared)


def plan_sync(database: Database, definitions: Mapping[str, ScheduleDefinition]) -> SyncPlan:
    """Compare the schedules from batchmill.toml with `definitions`; schedules created by hand stay.

    One with the same name as an entry of batchmill.toml follows that entry from now on.
    """
    with database.read() as connection:
        rows = {row.name: row for row in connection.execute(select(ScheduleRow.__table__).order_by(ScheduleRow.name))}
    active = {name: row for name, row in rows.items() if row.deleted_at is None}
    return SyncPlan(
        created=tuple(name for name in definitions if name not in rows),
        restored=tuple(name for name in definitions if name in rows and name not in active),
        changed=tuple(
            name
            for name, definition in definitions.items()
            if name in active and (active[name].definition != definition.dump() or not active[name].from_config)
        ),
        undeclared=tuple(name for name, row in active.items() if row.from_config and name not in definitions),
    )


def check_chains(database: Database, definitions: Mapping[str, ScheduleDefinition], *, prune: bool) -> None:
    """Raise UsageError if one of the schedules from batchmill.toml would follow one that there is not, or itself.

    prune: those that batchmill.toml no longer has are to be deleted
    """
    with database.read() as connection:
        rows = connection.execute(text(SELECT_AFTER)).all()
    active, tenants = {row.name: row.after for row in rows}, {row.name: row.tenant for row in rows}
    undeclared = plan_sync(database, definitions).undeclared if prune else ()
    for name, after in active.items():
        if after in undeclared and name not in undeclared and name not in definitions:  # made by hand
            raise UsageError(f"{name} runs after {after}, which --prune would delete; delete {name} first")
    for name in undeclared:
        del active[name]
    tenants |= {name: definition.tenant for name, definition in definitions.items()}
    after_by_name = {**active, **{name: definition.after for name, definition in definitions.items()}}
    for name in after_by_name:
        same_tenant = {other: after for other, after in after_by_name.items() if tenants[other] == tenants[name]}
        chains.check_chain(name, same_tenant)


def sync(
    database: Database, definitions: Mapping[str, ScheduleDefinition], now: datetime, *, prune: bool = False
) -> SyncPlan:
    """Make the schedules from batchmill.toml equal to `definitions`; return what that took.

    prune: delete those that batchmill.toml no longer has
    """
    check_chains(database, definitions, prune=prune)
    plan = plan_sync(database, definitions)
    after_by_name = {name: definition.after for name, definition in definitions.items()}
    to_create = {*plan.created, *plan.restored, *plan.changed}
    for name in filter(to_create.__contains__, chains.leaders_first(after_by_name)):  # each can follow those before
        for may_retry in (True, False):
            try:
                create(database, definitions[name], now, from_config=True, replace=True)
                break
            except UsageError:  # another sync created it at the same moment, so that it can be replaced now
                if not may_retry:
                    raise
    with database.read() as connection:
        followers_first = list(chains.leaders_first(select_after(connection)))[::-1]
    for name in filter(plan.undeclared.__contains__, followers_first) if prune else ():
        with suppress(NotFound):  # another sync deleted it at the same moment
            delete(database, name, now)
    return plan
