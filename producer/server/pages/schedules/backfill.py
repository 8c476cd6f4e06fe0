"""`/schedules/{name}/backfill`: run past times again, after a look at which ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from models.errors import UsageError
from producer.advice import Door, message_of
from producer.schedules import registry
from producer.schedules.runs import manual_runs
from producer.schedules.runs.manual_runs import BackfillResult, PlannedRun, SpanText
from producer.schedules.schedule_view import ScheduleView
from producer.server.context import Context, ServerContext
from producer.server.native.batches.long_acts import CHANGES, Act, Reply, perform
from producer.server.pages.access.messages import Level
from producer.server.pages.access.visitor import ActionForm, PageAdmin, Visitor
from producer.server.pages.frame.rendering import render_part, see_other
from producer.server.pages.schedules import addresses
from producer.server.pages.schedules.addresses import ScheduleName
from producer.times import ONE_DAY

router = APIRouter()

MAX_TIMES_SHOWN = 100
DAYS_SUGGESTED = 7
WAIT_SECONDS = 2.0  # for the runs to be planned; then the page comes, and the rest is planned meanwhile
STILL_PLANNED = "The runs are being planned; load the page again to see all of them."

SpanEnd = Annotated[str, Query(max_length=100)]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a backfill would do: the times that run, and those that it leaves alone."""

    planned: list[PlannedRun]
    reruns: bool

    @property
    def count(self) -> int:
        """How many runs start."""
        return sum(run.runs_again(include_completed=self.reruns) for run in self.planned)


@router.get("/schedules/{name}/backfill")
def preview_backfill(
    request: Request,
    context: Context,
    visitor: PageAdmin,
    name: ScheduleName,
    time: SpanEnd = "",
    first: Annotated[str, Query(alias="from", max_length=100)] = "",
    last: Annotated[str, Query(alias="to", max_length=100)] = "",
    rerun: bool = False,
) -> Response:
    """Show the form, and for a span the times that would run."""
    view = registry.get(context.database, name, visitor.principal.tenant)
    now = addresses.current_time(context)
    values: dict[str, Any] = {"view": view, "definition": view.definition, "preview": None}
    values["problem"] = manual_runs.find_pipeline_obstacle(context.catalogue, view.definition)
    if values["problem"] is None and (time or first or last):
        try:
            values["preview"] = Preview(_plan(context, view, _span_text(time, first, last), now), rerun)
        except UsageError as error:
            values["problem"] = message_of(error, Door.PAGE)
    zone = view.definition.timetable.zone_info
    today = now.astimezone(zone).date()
    span = (first or str(today - ONE_DAY * DAYS_SUGGESTED), last or str(today)) if not time else ("", "")
    values |= {"time": time, "first": span[0], "last": span[1], "rerun": rerun, "most": MAX_TIMES_SHOWN}
    values["run_address"] = addresses.run_address
    return render_part(request, visitor, "schedules/_backfill.html", "schedules/backfill.html", **values)


@router.post("/schedules/{name}/backfill")
async def backfill(
    request: Request, context: Context, visitor: PageAdmin, form: ActionForm, name: ScheduleName
) -> Response:
    """Run the times of a span that have no completed run, or all of them; a thousand runs take a while to plan."""
    fields, rerun = [str(form.get(field) or "") for field in ("time", "from", "to")], bool(form.get("rerun"))
    runs_address = f"{addresses.schedule_address(name)}#runs"

    def show(result: BackfillResult) -> Response:
        message, level = _describe(result)
        started = result.started
        address = addresses.run_address(name, started[0].scheduled_at) if len(started) == 1 else runs_address
        return see_other(request, visitor, address, message, level)

    def show_meanwhile() -> Response:
        return see_other(request, visitor, runs_address, STILL_PLANNED)

    act = Act(
        ("schedule.backfill", name, *fields, rerun),
        visitor.principal.tenant,
        lambda: _start(context, visitor, name, fields, rerun=rerun),
        CHANGES,
    )
    return await perform(act, Reply(show, show_meanwhile, WAIT_SECONDS))


def _start(
    context: ServerContext, visitor: Visitor, name: str, fields: Sequence[str], *, rerun: bool
) -> BackfillResult:
    view = registry.get(context.database, name, visitor.principal.tenant)
    now = addresses.current_time(context)
    span = manual_runs.parse_span(context.database, view.definition, _span_text(*fields), now)
    return manual_runs.backfill(context.database, context.catalogue, name, span, now, include_completed=rerun)


def _describe(result: BackfillResult) -> tuple[str, Level]:
    """Return what a backfill did, and whether that is good news."""
    skipped = f" {_count(len(result.skipped), 'scheduled time')} left alone." if result.skipped else ""
    if not result.started:
        return f"Nothing to run.{skipped}", "warn"
    return f"{_count(len(result.started), 'run')} planned.{skipped}", "good"


def _count(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count:,} {noun}s are"


def _span_text(time: str, first: str, last: str) -> SpanText:
    """Return what the form names; where it names one time, its span does not count, which the form fills by itself."""
    if time.strip():
        return SpanText(time)
    if not first.strip():
        raise UsageError("the span has no beginning; fill in From, or one time")
    return SpanText(None, first, last or None)


def _plan(context: ServerContext, view: ScheduleView, span_text: SpanText, now: datetime) -> list[PlannedRun]:
    span = manual_runs.parse_span(context.database, view.definition, span_text, now)
    return manual_runs.plan_backfill(context.database, view.definition, span, now)
