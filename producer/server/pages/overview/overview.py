"""`/`: what runs, how fast, and what needs attention."""

from fastapi import APIRouter, Request, Response

from producer.batches import backlog, views
from producer.batches.listing import BatchFilter
from producer.server.context import Context
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import render

router = APIRouter()

NEWEST = 8


@router.get("/")
def show_overview(request: Request, context: Context, visitor: PageReader) -> Response:
    """Show the first page."""
    tenant = visitor.principal.tenant
    backlogs = backlog.count_backlogs(context.database, tenant)
    newest = views.list_batches(context.database, NEWEST, BatchFilter(tenant=tenant, hides_deleting=True))
    return render(request, visitor, "overview/overview.html", backlogs=backlogs, batches=newest)
