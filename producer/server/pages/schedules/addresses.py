"""Addresses of schedules and their runs, and what they name."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path

from models import clock
from models.documents import format_timestamp
from models.errors import NotFound
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.history.past import PastSchedule
from producer.schedules.schedule_view import ScheduleView
from producer.server.context import ServerContext

ScheduleName = Annotated[str, Path(max_length=200)]


def current_time(context: ServerContext) -> datetime:
    """The time by which schedules go."""
    return clock.clock_for(context.settings, context.database)()


def schedule_address(name: str) -> str:
    """The page of a schedule; its name needs no escaping."""
    return f"/schedules/{name}"


def definition_of(view: ScheduleView | PastSchedule) -> ScheduleDefinition | PastSchedule:
    """What a page knows of the times of a schedule."""
    return view.definition if isinstance(view, ScheduleView) else view


def run_address(name: str, scheduled_at: datetime) -> str:
    """The page of a run."""
    return f"{schedule_address(name)}/runs/{format_timestamp(scheduled_at)}"


def parse_run_time(value: str) -> datetime:
    """The scheduled time in the address of a run; raises NotFound."""
    try:
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # such as the first day of all, in a zone that is ahead of UTC
        raise NotFound(f"there is no run at {value[:80]!r}; see the runs of the schedule") from None
