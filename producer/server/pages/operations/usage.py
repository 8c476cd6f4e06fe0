"""`/usage`: what tenants computed, by day, tenant and pipeline."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from models.errors import NotFound, UsageError
from producer.results.files import escape_formula
from producer.server import downloads
from producer.server.context import Context, ServerContext
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import render
from producer.server.pages.operations import usage_chart
from producer.tenants import usage as reports
from producer.tenants import usage_summary
from producer.tenants.principal import Principal
from producer.tenants.usage import Days, UsageRow
from producer.tenants.usage_summary import Measure

router = APIRouter()

MAX_GROUPS_SHOWN = 100
LINES_PER_BLOCK = 1_000

Text = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which usage is shown, as it was typed; empty = all, of the last 30 days.

    measure: what the chart shows
    """

    since: str = ""
    until: str = ""
    tenant: str = ""
    pipeline: str = ""
    measure: str = ""


@router.get("/usage")
def show_usage(
    request: Request,
    context: Context,
    visitor: PageReader,
    since: Text = "",
    until: Text = "",
    tenant: Text = "",
    pipeline: Text = "",
    measure: Text = "",
) -> Response:
    """Show the report."""
    values = read_report(context, visitor.principal, UsageFilter(since, until, tenant, pipeline, measure))
    return render(request, visitor, "operations/usage.html", **values)


def read_report(context: ServerContext, principal: Principal, chosen: UsageFilter) -> dict[str, Any]:
    """Return what the page shows; days that can't be read are a problem that it says."""
    problem, tenant, pipeline = None, chosen.tenant, chosen.pipeline
    try:
        days = Days.parse(chosen.since or None, chosen.until or None)
        owner = owner_of(principal, tenant)
        rows, by_tenant = reports.read_summary(context.database, days, owner, pipeline or None)
    except UsageError as error:
        problem, days, rows, by_tenant = str(error), Days.parse(None, None), [], []
    measure = Measure(chosen.measure) if chosen.measure in tuple(Measure) else Measure.ROWS
    return {
        "days": days,
        "problem": problem,
        "filters": asdict(chosen),
        "measure": measure,
        "measures": tuple(Measure),
        "tenants": sorted({row.tenant for row in by_tenant} | ({tenant} if tenant else set())),
        "pipelines": sorted({row.pipeline for row in rows} | ({pipeline} if pipeline else set())),
        **_report([row for row in rows if pipeline in ("", row.pipeline)], by_tenant, days, measure),
    }


@router.get("/usage.csv")
def download_usage(
    context: Context, visitor: PageReader, since: Text = "", until: Text = "", tenant: Text = "", pipeline: Text = ""
) -> Response:
    """Send the usage by day, tenant and pipeline as CSV, which spreadsheets don't take for formulas."""
    days = Days.parse(since or None, until or None)
    rows = reports.iterate_usage(context.database, days, owner_of(visitor.principal, tenant))
    blocks = _join(_csv_lines(row for row in rows if pipeline in ("", row.pipeline)))
    return downloads.download(blocks, context.download_threads, "text/csv", f"usage-{days.since}-{days.until}.csv")


def owner_of(principal: Principal, tenant: str) -> str | None:
    """Whose usage is asked for; None = everybody's."""
    if tenant and not principal.may_see(tenant):
        raise NotFound("this key sees the usage of its tenant only")
    return tenant or principal.tenant


def _report(rows: Sequence[UsageRow], tenant_rows: Sequence[UsageRow], days: Days, measure: Measure) -> dict[str, Any]:
    by_pipeline = usage_summary.group_by(rows, lambda row: row.pipeline, measure)
    by_tenant = usage_summary.group_by(tenant_rows, lambda row: row.tenant, measure)
    periods = usage_summary.list_periods(rows, days, lambda row: row.pipeline)
    return {
        "totals": usage_summary.add_up(rows),
        "by_pipeline": by_pipeline[:MAX_GROUPS_SHOWN],
        "by_tenant": by_tenant[:MAX_GROUPS_SHOWN],
        "most": MAX_GROUPS_SHOWN,
        "group_counts": (len(by_pipeline), len(by_tenant)),
        "chart": usage_chart.draw(periods, by_pipeline, measure),
        "by_period": [(period.label, _total_of(period)) for period in reversed(periods) if period.totals],
        "has_rows": bool(rows),
    }


def _total_of(period: usage_summary.Period) -> usage_summary.Totals:
    totals = usage_summary.Totals()
    for part in period.totals.values():
        totals.add(part)
    return totals


def _csv_lines(rows: Iterable[UsageRow]) -> Iterator[str]:
    names = list(UsageRow.__slots__)
    for cells in itertools.chain([names], (itemgetter(*names)(row.as_dict()) for row in rows)):
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(
            escape_formula(cell) if isinstance(cell, str) else cell for cell in cells
        )
        yield line.getvalue()


def _join(lines: Iterator[str]) -> Iterator[bytes]:
    """Yield many lines at once."""
    while block := "".join(itertools.islice(lines, LINES_PER_BLOCK)):
        yield block.encode()
