"""Actions on a schedule: run it now, suspend it, resume it. Each shows first what it affects."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from models.errors import NotFound, UsageError
from producer.schedules import registry
from producer.schedules.definition import EPOCH
from producer.schedules.history import past, run_pages
from producer.schedules.history.past import PastSchedule
from producer.schedules.runs import manual_runs, run_views
from producer.schedules.schedule_view import ScheduleView
from producer.server.context import Context, ServerContext
from producer.server.pages.access.messages import Level
from producer.server.pages.access.visitor import ActionForm, PageAdmin, Visitor
from producer.server.pages.frame.rendering import confirm, see_other
from producer.server.pages.schedules import addresses
from producer.server.pages.schedules.addresses import ScheduleName
from producer.workers import workers

router = APIRouter()

GOOD: Level = "good"
WARN: Level = "warn"
NEWEST_RUNS = 20  # among which open ones are looked for


@router.get("/schedules/{name}/trigger")
def confirm_trigger(request: Request, context: Context, visitor: PageAdmin, name: ScheduleName) -> Response:
    """Show which rows a run now would read, and whether one is open."""
    view, now = _find(context, visitor, name)
    definition = view.definition
    values = {
        "since": view.watermark or definition.initial_since,
        "reads_all": (view.watermark or definition.initial_since) == EPOCH,
        "until": now - definition.lag_duration,
        "open_runs": _open_runs(context, name),
        "obstacle": manual_runs.find_obstacle(context.database, context.catalogue, definition),
    }
    return _confirm(request, visitor, "trigger", view, **values)


@router.post("/schedules/{name}/trigger")
def trigger(request: Request, context: Context, visitor: PageAdmin, _form: ActionForm, name: ScheduleName) -> Response:
    """Run a schedule now, and show the run."""
    _view, now = _find(context, visitor, name)
    try:
        run_at = manual_runs.trigger(context.database, context.catalogue, name, now).scheduled_at
    except UsageError:
        run_at = now.replace(microsecond=0)
        if run_views.find_run(context.database, name, run_at) is None:
            raise
    message, level = f"A run of {name} is planned; a worker reads its rows within seconds.", GOOD
    if not workers.schedules_are_served(context.database):
        message, level = f"A run of {name} is planned, and begins when a worker runs: start one.", WARN
    return see_other(request, visitor, addresses.run_address(name, run_at), message, level)


@router.get("/schedules/{name}/suspend")
def confirm_suspend(request: Request, context: Context, visitor: PageAdmin, name: ScheduleName) -> Response:
    """Show which runs will not start."""
    view = _find_stored(context, visitor, name)
    values = {"open_runs": _open_runs(context, name), "followers": registry.list_followers(context.database, name)}
    return _confirm(request, visitor, "suspend", view, **values)


@router.post("/schedules/{name}/suspend")
def suspend(request: Request, context: Context, visitor: PageAdmin, _form: ActionForm, name: ScheduleName) -> Response:
    """Start no runs of a schedule until it is resumed."""
    _find_stored(context, visitor, name)
    registry.suspend(context.database, name, addresses.current_time(context))
    message = f"The schedule {name} is suspended: no run starts until it is resumed."
    return see_other(request, visitor, addresses.schedule_address(name), message)


@router.get("/schedules/{name}/resume")
def confirm_resume(request: Request, context: Context, visitor: PageAdmin, name: ScheduleName) -> Response:
    """Show when the next run starts, and how many were not run meanwhile."""
    view, now = _find(context, visitor, name)
    values = {"next_run_at": next(view.definition.timetable.times_after(now), None), "missed": _count_missed(view, now)}
    return _confirm(request, visitor, "resume", view, **values)


@router.post("/schedules/{name}/resume")
def resume(request: Request, context: Context, visitor: PageAdmin, _form: ActionForm, name: ScheduleName) -> Response:
    """Resume a schedule from its next time."""
    view, now = _find(context, visitor, name)
    if view.suspended_at is None:
        return see_other(request, visitor, addresses.schedule_address(name), f"The schedule {name} is active already.")
    next_run_at = registry.resume(context.database, name, now)
    following = "" if next_run_at is None else f" Its next run is {view.definition.format_time(next_run_at)}."
    return see_other(request, visitor, addresses.schedule_address(name), f"The schedule {name} is resumed.{following}")


def _find(context: ServerContext, visitor: Visitor, name: str) -> tuple[ScheduleView, datetime]:
    return registry.get(context.database, name, visitor.principal.tenant), addresses.current_time(context)


def _open_runs(context: ServerContext, name: str) -> list[Any]:
    newest = run_pages.list_runs(context.database, name, NEWEST_RUNS)
    return [run for run in newest.runs if run.state.is_open]


def _count_missed(view: ScheduleView, now: datetime) -> int:
    """Return how many scheduled times came while the schedule was suspended."""
    return 0 if view.suspended_at is None else view.definition.timetable.count_between(view.suspended_at, now)


def _find_stored(context: ServerContext, visitor: Visitor, name: str) -> ScheduleView | PastSchedule:
    """Return a schedule that is not deleted, also one that can't be read; raises NotFound."""
    view = past.find(context.database, name, visitor.principal.tenant)
    if isinstance(view, PastSchedule) and view.deleted_at is not None:
        raise NotFound(f"schedule {name} was deleted")
    return view


def _confirm(
    request: Request, visitor: Visitor, action: str, view: ScheduleView | PastSchedule, **values: Any
) -> Response:
    values |= {"view": view, "definition": addresses.definition_of(view), "run_address": addresses.run_address}
    title = {"trigger": f"Run {view.name} now", "suspend": f"Suspend {view.name}", "resume": f"Resume {view.name}"}
    return confirm(request, visitor, f"schedules/_{action}.html", title[action], **values)
