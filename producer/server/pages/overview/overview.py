"""`/`: what runs, how fast, and what needs attention."""

from typing import Any

from fastapi import APIRouter, Request, Response

from producer.server.context import Context, ServerContext
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import render
from producer.server.pages.overview.glance import Glance
from producer.tenants.principal import Principal

router = APIRouter()


@router.get("/")
def show_overview(request: Request, context: Context, visitor: PageReader) -> Response:
    """Show the first page."""
    return render(request, visitor, "overview/overview.html", glance=Glance(context, visitor.principal.tenant))


def values_of(_context: ServerContext, _principal: Principal, glance: Glance) -> dict[str, Any]:
    """Return what each part of the page needs; it reads only what it shows."""
    return {"glance": glance}
