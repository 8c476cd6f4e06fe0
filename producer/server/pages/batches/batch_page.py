"""`/batches/{id}`: one batch, on one page, and its failures counted exactly."""

from typing import Any

from fastapi import APIRouter, Request, Response

from producer.batches import views
from producer.batches.batch_view import BatchView
from producer.server.context import Context, ServerContext
from producer.server.native.batches.reading import BatchId
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.batches import batch_parts
from producer.server.pages.frame.rendering import is_part, render
from producer.tenants.principal import Principal

router = APIRouter()


@router.get("/batches/{batch_id}")
def show_batch(request: Request, context: Context, visitor: PageReader, batch_id: BatchId) -> Response:
    """Show one batch."""
    batch = context.get_batch(visitor.principal, batch_id)
    return render(request, visitor, "batches/batch.html", **page_values(context, visitor.principal, batch))


@router.get("/batches/{batch_id}/failures")
def show_failures(request: Request, context: Context, visitor: PageReader, batch_id: BatchId) -> Response:
    """Show the failures of a batch by code, all of them counted."""
    batch = context.get_batch(visitor.principal, batch_id)
    views.check_not_deleting(batch)
    values = batch_parts.failures_values(context, visitor.principal, batch, is_exact=True)
    template = "batches/_failures.html" if is_part(request) else "batches/failures.html"
    return render(request, visitor, template, **values)


def page_values(context: ServerContext, principal: Principal, batch: BatchView) -> dict[str, Any]:
    """Read all parts of the page."""
    values: dict[str, Any] = {}
    for _, values_of in batch_parts.PARTS.values():
        values |= values_of(context, principal, batch)
    return values
