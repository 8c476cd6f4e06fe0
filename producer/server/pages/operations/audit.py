"""`/batches/{id}/audit`: whether every job of a batch has exactly one result, recomputed from the rows."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from models.errors import TooManyRequests
from producer.server.context import Context
from producer.server.native.operations import checks
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import is_part, render

router = APIRouter()


@router.get("/batches/{batch_id}/audit")
def show_audit(
    request: Request,
    context: Context,
    visitor: PageReader,
    batch_id: Annotated[str, Path(max_length=100)],
    run: bool = False,
) -> Response:
    """Show what an audit does, and its result once it was asked for."""
    batch = context.get_batch(visitor.principal, batch_id)
    values: dict[str, Any] = {"batch": batch, "summary": None, "busy": None, "took": 0.0, "checked_at": None}
    if run:
        started = time.monotonic()
        try:
            values["summary"] = checks.audit_batch(context, visitor.principal, batch_id)
        except TooManyRequests as error:
            values["busy"] = str(error)
        values |= {"took": time.monotonic() - started, "checked_at": datetime.now(UTC)}
    template = "_audit.html" if is_part(request) else "audit.html"
    return render(request, visitor, f"operations/{template}", **values)
