"""A schedule as the database has it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from models.errors import UsageError
from producer.advice import DoorText
from producer.schedules.definition import ScheduleDefinition
from producer.tenants.principal import DEFAULT_TENANT

REPLACED_BY_OPERATOR = "the operator has to create it again or delete it"


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
    deleted_at: datetime | None = None
    tenant: str = DEFAULT_TENANT

    @property
    def name(self) -> str:
        """The schedule's name."""
        return self.definition.name


def view_from_row(row: Row[Any]) -> ScheduleView:
    """Return the schedule of a row; raises UsageError if this version can't read its definition."""
    return ScheduleView(
        _read_definition(row),
        row.from_config,
        row.suspended_at,
        row.evaluated_until,
        row.next_run_at,
        row.watermark,
        row.created_at,
        row.deleted_at,
        row.tenant,
    )


def _read_definition(row: Row[Any]) -> ScheduleDefinition:
    try:
        return ScheduleDefinition.from_fields(row.name, row.definition)
    except UsageError as error:  # another version saved it, with fields unknown here
        raise UsageError(
            f"{error}; this version can't read it; "
            + DoorText(
                f"create it again with --replace, or batchmill schedule delete {row.name}",
                http=REPLACED_BY_OPERATOR,
                page=REPLACED_BY_OPERATOR,
            )
        ) from None
