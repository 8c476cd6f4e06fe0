"""Schedules of which only the history can be shown: they were deleted, or this version can't read their definition."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row, select

from models.db import Database
from models.documents import format_timestamp
from models.errors import NotFound, UsageError
from models.tables.schedules import Schedule as ScheduleRow
from producer.advice import text_of
from producer.schedules import registry
from producer.schedules.schedule_view import ScheduleView, view_from_row


@dataclass(frozen=True, slots=True)
class PastSchedule:
    """A schedule as far as its runs need it.

    problem: why its definition can't be read; None = it was deleted
    """

    name: str
    tenant: str
    zone: ZoneInfo
    problem: str | None
    deleted_at: datetime | None
    suspended_at: datetime | None

    @property
    def tz(self) -> str:
        """The zone of its times."""
        return self.zone.key

    def as_dict(self) -> dict[str, Any]:
        """Return it as a list of schedules has it; these names are stable."""
        suspended_at = None if self.suspended_at is None else format_timestamp(self.suspended_at)
        return {"name": self.name, "tenant": self.tenant, "problem": self.problem, "suspended_at": suspended_at}

    def format_time(self, instant: datetime) -> str:
        """Format a time for people, in the schedule's zone."""
        return f"{instant.astimezone(self.zone):%a %Y-%m-%d %H:%M %Z}"


def find(database: Database, name: str, tenant: str | None = None) -> ScheduleView | PastSchedule:
    """Return a schedule, or what its history needs; raises NotFound.

    tenant: to whom it must belong; None = to anybody
    """
    try:
        return registry.get(database, name, tenant)
    except (NotFound, UsageError) as error:
        query = select(ScheduleRow.__table__).where(ScheduleRow.name == name)
        with database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or tenant not in (None, row.tenant):
            raise NotFound(text_of(error)) from None
        return _past(row, text_of(error))


def list_unreadable(database: Database, tenant: str | None = None) -> list[PastSchedule]:
    """Return the schedules, except deleted ones, whose definition this version can't read, by name.

    tenant: to whom they belong; None = to anybody
    """
    query = select(ScheduleRow.__table__).where(ScheduleRow.deleted_at.is_(None)).order_by(ScheduleRow.name)
    with database.read() as connection:
        rows = [row for row in connection.execute(query) if tenant in (None, row.tenant)]
    return [_past(row, problem) for row in rows if (problem := _problem_of(row)) is not None]


def _problem_of(row: Row[Any]) -> str | None:
    try:
        view_from_row(row)
    except UsageError as error:
        return text_of(error)
    return None


def _past(row: Row[Any], problem: str) -> PastSchedule:
    reason = problem if row.deleted_at is None else None
    return PastSchedule(row.name, row.tenant, _zone_of(row.definition), reason, row.deleted_at, row.suspended_at)


def _zone_of(definition: Mapping[str, Any]) -> ZoneInfo:
    try:
        return ZoneInfo(str(definition.get("tz", "UTC")))
    except (KeyError, ValueError, OSError):  # of no zone that is known here
        return ZoneInfo("UTC")
