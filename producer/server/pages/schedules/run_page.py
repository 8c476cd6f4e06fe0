"""`/schedules/{name}/runs/{time}`: the report of one run."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from models.documents import to_json
from models.errors import NotFound
from models.states import RunState, RunTrigger
from producer.batches import views
from producer.batches.views import BatchView
from producer.schedules import reports
from producer.schedules.definition import EPOCH
from producer.schedules.history import past, run_verdicts
from producer.schedules.history.past import PastSchedule
from producer.schedules.quality import comparison
from producer.schedules.reports import RunReport
from producer.schedules.runs import run_summary
from producer.schedules.schedule_view import ScheduleView
from producer.server.context import Context, ServerContext
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.headers import attachment
from producer.server.pages.frame.rendering import render
from producer.server.pages.schedules import addresses
from producer.server.pages.schedules.addresses import ScheduleName
from producer.tenants.principal import Principal

router = APIRouter()


@router.get("/schedules/{name}/runs/{time}")
def show_run(request: Request, context: Context, visitor: PageReader, name: ScheduleName, time: str) -> Response:
    """Show how a run went."""
    values = read_run(context, visitor.principal, (name, addresses.parse_run_time(time)))
    return render(request, visitor, "schedules/run.html", **values)


def read_run(context: ServerContext, principal: Principal, subject: tuple[str, datetime]) -> dict[str, Any]:
    """Return what the page of a run shows; raises NotFound.

    subject: the name of the schedule, and the scheduled time
    """
    name, scheduled_at = subject
    report = reports.report_run_at(context.database, name, scheduled_at, principal.tenant)
    run, view = report.run, past.find(context.database, name, principal.tenant)
    summary = run_summary.redact_summary(run.summary) or {}
    return {
        "view": view,
        "definition": addresses.definition_of(view),
        "run": run,
        "address": addresses.run_address(name, scheduled_at),
        "summary": summary,
        "events": report.events,
        "batch": _find_batch(context, principal.tenant, run.batch_id),
        "drift": summary.get("drift") or {},
        "lines": comparison.compare(run.summary, [other.summary for other in report.previous_runs]),
        "previous_count": len(report.previous_runs),
        "verdicts": run_verdicts,
        "reads_all": run.since == EPOCH,
        "advice": _advice(report, view),
    }


@router.get("/schedules/{name}/runs/{time}/report.json")
def download_report(context: Context, visitor: PageReader, name: ScheduleName, time: str) -> Response:
    """Send the report as `batchmill schedule report --json` prints it."""
    scheduled_at = addresses.parse_run_time(time)
    report = reports.report_run_at(context.database, name, scheduled_at, visitor.principal.tenant)
    file_name = f"{name}-{scheduled_at:%Y%m%dT%H%M%SZ}.json"
    return Response(to_json(report.as_dict()), headers=attachment(file_name), media_type="application/json")


def _find_batch(context: ServerContext, tenant: str | None, batch_id: str | None) -> BatchView | None:
    try:
        return None if batch_id is None else views.get_batch(context.database, batch_id, tenant)
    except NotFound:  # it was pruned
        return None


def _advice(report: RunReport, view: ScheduleView | PastSchedule) -> dict[str, Any]:
    """Return which next steps make sense: to run the time again, or to look at rows."""
    run = report.run
    is_over = not run.state.is_open
    return {
        "again": is_over and isinstance(view, ScheduleView) and run.trigger is not RunTrigger.MANUAL,
        "completed": run.state is RunState.COMPLETED,
        "failed_rows": bool((run.summary or {}).get("failed")),
        "drifted": run_verdicts.has_drifted(run),
    }
