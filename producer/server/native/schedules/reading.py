"""`GET /api/schedules…`: list schedules, show one, and report its runs and events."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from models import clock
from producer.advice import Door, in_door
from producer.schedules import reports, status
from producer.schedules.alerts import events
from producer.schedules.history import past
from producer.schedules.history.past import PastSchedule
from producer.schedules.runs import run_views
from producer.server.access import Reader
from producer.server.context import Context
from producer.server.native import responses
from producer.server.native.schedules import objects

router = APIRouter(tags=["schedules"])

ScheduleName = Annotated[str, Path(description="The schedule's name.", examples=[objects.EXAMPLE_NAME], max_length=200)]
Limit = Annotated[int, Query(ge=1, le=1_000)]


@router.get("/schedules", summary="List schedules", response_model=objects.ScheduleList)
def list_schedules(context: Context, principal: Reader) -> Response:
    """List schedules with their last and next runs, by name, and those that this version can't read."""
    now = clock.clock_for(context.settings, context.database)()
    statuses, unreadable = status.list_readable(context.database, now, principal.tenant)
    return responses.list_response(
        [item.as_dict() for item in statuses], unreadable=[_unreadable_object(schedule) for schedule in unreadable]
    )


@router.get("/schedules/{name}", summary="Show a schedule", response_model=objects.ScheduleReport)
def show_schedule(context: Context, principal: Reader, name: ScheduleName) -> Response:
    """Show a schedule: its definition, its next five times, its last runs and its events."""
    now = clock.clock_for(context.settings, context.database)()
    report = reports.report_schedule(context.database, name, now, principal.tenant)
    return responses.json_response(report.as_dict())


@router.get("/schedules/{name}/runs", summary="List a schedule's runs", response_model=objects.RunList)
def list_runs(context: Context, principal: Reader, name: ScheduleName, limit: Limit = 20) -> Response:
    """List the runs of a schedule, also of a deleted one, the latest first, with outcomes, quality and drift."""
    past.find(context.database, name, principal.tenant)
    runs = run_views.newest_runs(context.database, name, limit)
    return responses.list_response([run.as_dict() for run in runs])


@router.get("/schedules/{name}/report", summary="Report a run", response_model=objects.RunReport)
def report_run(
    context: Context,
    principal: Reader,
    name: ScheduleName,
    time: Annotated[
        str | None, Query(max_length=100, description="The scheduled time, or its day; unset: the last run.")
    ] = None,
) -> Response:
    """Report how one run went: its rows, and the quality and drift of its results."""
    report = reports.report_run(context.database, name, time, principal.tenant)
    return responses.json_response(report.as_dict())


@router.get("/schedules/{name}/events", summary="List a schedule's events", response_model=objects.EventList)
def list_events(context: Context, principal: Reader, name: ScheduleName, limit: Limit = 20) -> Response:
    """List what people should know about a schedule, the newest first."""
    past.find(context.database, name, principal.tenant)
    newest = events.list_newest(context.database, name, limit)
    return responses.list_response([event.as_dict() for event in newest])


def _unreadable_object(schedule: PastSchedule) -> dict[str, Any]:
    return {**schedule.as_dict(), "problem": in_door(schedule.problem or "", Door.HTTP)}
