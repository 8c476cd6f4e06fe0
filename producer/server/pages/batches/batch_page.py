"""`/batches/{id}`: one batch, on one page, and its failures counted exactly."""

from typing import Any

from fastapi import APIRouter, Request, Response

from models.states import BatchStatus
from producer.batches import views
from producer.batches.batch_view import BatchView
from producer.batches.failure_counts import CodeCount, FailureCounts
from producer.results.summaries.cache import find_last_seq
from producer.server.context import Context, ServerContext
from producer.server.native.batches.reading import BatchId
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.batches import batch_parts, results
from producer.server.pages.frame.rendering import is_part, render
from producer.tenants.principal import Principal

router = APIRouter()

ROWS = 10  # of the table, which has a page for itself


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
    values: dict[str, Any] = {"last_seq": find_last_seq(context.database, batch.id)}
    if batch.status is BatchStatus.DELETING:  # its results are vanishing
        return values | {"batch": batch}
    for _, values_of in batch_parts.PARTS.values():
        values |= values_of(context, principal, batch)
    codes = [CodeCount(g.code, g.jobs, g.example.position, g.example.is_invalid) for g in values["failures"].groups]
    counted = FailureCounts(tuple(codes), values["failures"].is_exact)
    return values | results.values_for(context, batch, {}, counted, ROWS)
