"""`/schedules/{name}`: one schedule, its next runs, its calendar, and all its runs."""

from datetime import datetime
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from models.documents import to_json
from models.states import RunState
from producer.schedules import registry, status
from producer.schedules.alerts import events
from producer.schedules.history import calendar, calendar_runs, past, run_marks, run_pages, run_verdicts
from producer.schedules.history.past import PastSchedule
from producer.schedules.runs import manual_runs, run_views
from producer.schedules.schedule_view import ScheduleView
from producer.server.context import Context, ServerContext
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import is_part, render
from producer.server.pages.schedules import addresses, run_bars, run_charts, schedule_list
from producer.server.pages.schedules.addresses import ScheduleName
from producer.tenants.principal import Principal

router = APIRouter()

PAGE_RUNS, CHART_RUNS = 15, 60
NEXT_TIMES, NEWEST_EVENTS = 8, 10
DAYS_OF_CADENCE = 7
# What the facts of the page show already.
SHOWN_FIELDS = ("cron", "tz", "after", "pipeline", "sql", "file", "tenant")


@router.get("/schedules/{name}")
def show_schedule(
    request: Request,
    context: Context,
    visitor: PageReader,
    name: ScheduleName,
    before: Annotated[str, Query(max_length=40)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """Show a schedule, or the runs of one page alone; of a deleted or unreadable one its history."""
    view = past.find(context.database, name, visitor.principal.tenant)
    chosen = RunState(state) if state in tuple(RunState) else None
    cursor = addresses.parse_run_time(before) if before else None
    values = {**_read_runs(context, view, cursor, chosen), "before": before}
    if is_part(request):
        return render(request, visitor, "schedules/_runs.html", **values)
    if isinstance(view, PastSchedule):
        return render(request, visitor, "schedules/history.html", **values)
    return render(request, visitor, "schedules/schedule.html", **values, **_whole_page(context, view))


def read_schedule(context: ServerContext, principal: Principal, name: str) -> dict[str, Any]:
    """Return what the page of a schedule shows; raises NotFound, also for one that is deleted or can't be read."""
    view = registry.get(context.database, name, principal.tenant)
    return {**_read_runs(context, view, None, None), **_whole_page(context, view)}


def _read_runs(
    context: ServerContext, view: ScheduleView | PastSchedule, cursor: datetime | None, state: RunState | None
) -> dict[str, Any]:
    return {
        "view": view,
        "definition": addresses.definition_of(view),
        "page": run_pages.list_runs(context.database, view.name, PAGE_RUNS, before=cursor, state=state),
        "before": "",
        "state": "" if state is None else state.value,
        "states": tuple(RunState),
        "verdicts": run_verdicts,
        "run_address": addresses.run_address,
    }


def _whole_page(context: ServerContext, view: ScheduleView) -> dict[str, Any]:
    now, database, name = addresses.current_time(context), context.database, view.name
    last = next(iter(run_views.newest_runs(database, name, 1)), None)
    item = status.status_for(view, last, now)
    charted = run_pages.list_runs(database, name, CHART_RUNS).runs
    fields = view.definition.dump_redacted()
    timetable = view.definition.timetable
    next_times = [] if view.suspended_at else list(islice(timetable.times_after(now), NEXT_TIMES))
    return {
        "item": item,
        "last": last,
        "now": now,
        "timing": schedule_list.describe_timing(item),
        "source": schedule_list.describe_source(item),
        "files": fields.get("file"),
        "fields": {name: _format_value(value) for name, value in fields.items() if name not in SHOWN_FIELDS},
        "next_times": [(time, (time - now).total_seconds()) for time in next_times],
        "events": events.list_newest(database, name, NEWEST_EVENTS),
        "followers": registry.list_followers(database, name),
        "charts": run_charts.charts_for(charted),
        "obstacle": manual_runs.find_pipeline_obstacle(context.catalogue, view.definition),
        "open_runs": [run for run in charted if run.state.is_open],
        **_calendar(context, view, now),
    }


def _format_value(value: Any) -> str:
    """Return a field of the definition as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return to_json(value) if isinstance(value, dict | list) else str(value)


def _calendar(context: ServerContext, view: ScheduleView, now: datetime) -> dict[str, Any]:
    """Return the grids of the calendar, by month or by hour, and how to describe a run of it."""
    zone = view.definition.timetable.zone_info
    by_hour = _runs_often(context, view, now)
    since = calendar.first_moment(now, zone, by_hour=by_hour)
    runs = calendar_runs.read_runs(context.database, view.name, since)
    grids = [calendar.hour_grid(runs, now, zone)] if by_hour else calendar.month_grids(runs, now, zone)
    return {
        "grids": grids if runs else [],
        "by_hour": by_hour,
        "shown_since": since,
        "describe_cell": run_bars.describe_cell,
        "zone": view.definition.tz,
    }


def _runs_often(context: ServerContext, view: ScheduleView, now: datetime) -> bool:
    """Return whether a schedule runs more than twice a day, by its timetable or by the runs that it had."""
    most = calendar.MAX_DAILY_RUNS * DAYS_OF_CADENCE
    since = now - calendar.ONE_DAY * DAYS_OF_CADENCE
    if view.definition.cron is not None:
        return view.definition.timetable.count_between(since, now) > most
    return len(run_marks.marks_since(context.database, view.name, since, most + 1)) > most
