"""`/batches`: all batches, the newest first."""

from fastapi import APIRouter, Request, Response

from producer.batches import views
from producer.batches.listing import BatchFilter
from producer.server.context import Context
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import render

router = APIRouter()

PAGE_BATCHES = 50


@router.get("/batches")
def show_batches(request: Request, context: Context, visitor: PageReader) -> Response:
    """Show the list."""
    batch_filter = BatchFilter(tenant=visitor.principal.tenant, hides_deleting=True)
    batches = views.list_batches(context.database, PAGE_BATCHES, batch_filter)
    return render(request, visitor, "batches/list.html", batches=batches)
