"""Acting on schedules: run one now or again, suspend it and resume it."""

from fastapi import APIRouter, Response

from models import clock
from models.documents import format_timestamp
from producer.schedules import registry, reports
from producer.schedules.runs import manual_runs
from producer.schedules.runs.manual_runs import BackfillResult, SpanText
from producer.server.access import Admin
from producer.server.context import Context, ServerContext
from producer.server.native import responses
from producer.server.native.schedules import objects
from producer.server.native.schedules.reading import ScheduleName
from producer.tenants.principal import Principal

router = APIRouter(tags=["schedules"])


@router.post("/schedules/{name}/trigger", summary="Run a schedule now", response_model=objects.StartedRuns)
def trigger_schedule(context: Context, principal: Admin, name: ScheduleName) -> Response:
    """Run a schedule now, besides its scheduled times, over all rows since the last completed run."""
    registry.get(context.database, name, principal.tenant)
    now = clock.clock_for(context.settings, context.database)()
    run = manual_runs.trigger(context.database, context.catalogue, name, now)
    return _started(BackfillResult([run], []))


@router.post("/schedules/{name}/backfill", summary="Run past times again", response_model=objects.StartedRuns)
def backfill_schedule(context: Context, principal: Admin, name: ScheduleName, body: objects.BackfillBody) -> Response:
    """Run past scheduled times that have no completed run, each over the rows since the time before."""
    now = clock.clock_for(context.settings, context.database)()
    definition = registry.get(context.database, name, principal.tenant).definition
    span_text = SpanText(body.time, body.first, body.last)
    span = manual_runs.parse_span(context.database, definition, span_text, now)
    result = manual_runs.backfill(
        context.database, context.catalogue, name, span, now, include_completed=body.rerun_completed
    )
    return _started(result)


@router.post("/schedules/{name}/suspend", summary="Suspend a schedule", response_model=objects.ScheduleReport)
def suspend_schedule(context: Context, principal: Admin, name: ScheduleName) -> Response:
    """Start no runs of a schedule until it is resumed; open runs continue."""
    registry.get(context.database, name, principal.tenant)
    registry.suspend(context.database, name, clock.clock_for(context.settings, context.database)())
    return _show(context, principal, name)


@router.post("/schedules/{name}/resume", summary="Resume a schedule", response_model=objects.ScheduleReport)
def resume_schedule(context: Context, principal: Admin, name: ScheduleName) -> Response:
    """Resume a schedule from its next time; times while it was suspended are not caught up."""
    registry.get(context.database, name, principal.tenant)
    registry.resume(context.database, name, clock.clock_for(context.settings, context.database)())
    return _show(context, principal, name)


def _show(context: ServerContext, principal: Principal, name: str) -> Response:
    now = clock.clock_for(context.settings, context.database)()
    return responses.json_response(reports.report_schedule(context.database, name, now, principal.tenant).as_dict())


def _started(result: BackfillResult) -> Response:
    started = [{"scheduled_at": format_timestamp(run.scheduled_at), "batch_id": run.batch_id} for run in result.started]
    skipped = list(map(format_timestamp, result.skipped))
    return responses.json_response({"object": "schedule.started", "started": started, "skipped": skipped})
