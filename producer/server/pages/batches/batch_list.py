"""`/batches`: all batches, the newest first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from models.errors import UsageError
from models.states import BatchStatus
from producer import times
from producer.batches import batch_pages
from producer.batches.batch_pages import BatchPage
from producer.batches.listing import BatchFilter
from producer.readers.storable import is_storable
from producer.server.context import Context, ServerContext
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import render
from producer.tenants.principal import Principal

router = APIRouter()

PAGE_BATCHES = 50
MAX_TEXT = 200
STATUSES = tuple(status.value for status in BatchStatus if status is not BatchStatus.DELETING)
TEXT_FIELDS = ("q", "pipeline", "tenant", "since", "until")


@dataclass(frozen=True, slots=True)
class ListForm:
    """The filters as they stand in the form and in the address.

    q: a part of a name or of a metadata value, a name with `*`, or an id or its beginning
    problems: a sentence for each value that can't be used, and is ignored
    """

    status: tuple[str, ...] = ()
    q: str = ""
    pipeline: str = ""
    tenant: str = ""
    since: str = ""
    until: str = ""
    older: str = ""
    newer: str = ""
    problems: tuple[str, ...] = ()

    @property
    def filters(self) -> dict[str, Any]:
        """What is filtered, for the query string of a link."""
        values = {"status": list(self.status)} | {name: getattr(self, name) for name in TEXT_FIELDS}
        return {name: value for name, value in values.items() if value}


@router.get("/batches")
def show_batches(request: Request, context: Context, visitor: PageReader) -> Response:
    """Show the list."""
    return render(
        request, visitor, "batches/list.html", **list_values(context, visitor.principal, request.query_params)
    )


@router.get("/batches/more")
def show_more(request: Request, context: Context, visitor: PageReader) -> Response:
    """Show the rows of an older page alone, which the script puts below those that are there."""
    return render(
        request, visitor, "batches/_rows.html", **list_values(context, visitor.principal, request.query_params)
    )


def list_values(context: ServerContext, principal: Principal, params: Any) -> dict[str, Any]:
    """Read a page of the list.

    params: of the address, in which `status` may stand several times
    """
    form, batch_filter = _read_filter(params, principal)
    page = _fetch(context, batch_filter)
    return {
        "form": form,
        "page": page,
        "batches": page.batches,
        "newer": batch_pages.format_place(page.newer),
        "older": batch_pages.format_place(page.older),
        "search_on": batch_pages.format_place(page.stopped_at),
        "searched": batch_pages.MAX_SEARCHED,
        "statuses": STATUSES,
        "pipelines": _with_chosen(sorted(context.catalogue), form.pipeline),
        "shows_tenants": principal.tenant is None,
    }


def _fetch(context: ServerContext, batch_filter: BatchFilter) -> BatchPage:
    page = batch_pages.fetch_page(context.database, batch_filter, PAGE_BATCHES)
    if batch_filter.newer_than is not None and page.newer is None and page.stopped_at is None:
        first_page = replace(batch_filter, newer_than=None)  # full, unlike the rest above a page
        return batch_pages.fetch_page(context.database, first_page, PAGE_BATCHES)
    return page


def _read_filter(params: Any, principal: Principal) -> tuple[ListForm, BatchFilter]:
    """Return the form and what it means; values that can't be used are named and ignored."""
    texts = {name: _text(params.get(name)) for name in (*TEXT_FIELDS, "older", "newer")}
    statuses = tuple(status for status in STATUSES if status in params.getlist("status"))
    problems: list[str] = []
    since = _moment(texts["since"], problems)
    until = _moment(texts["until"], problems, is_end=True)
    places = {}
    for name in ("older", "newer"):
        try:
            places[name] = batch_pages.parse_place(texts[name]) if texts[name] else None
        except UsageError as error:
            problems.append(str(error))
    form = ListForm(status=statuses, **texts, problems=tuple(problems))
    is_pattern = "*" in form.q
    return form, BatchFilter(
        status=statuses or None,
        pipeline=form.pipeline or None,
        name=form.q if is_pattern else None,
        search=form.q if form.q and not is_pattern else None,
        since=since,
        until=until,
        older_than=places.get("older"),
        newer_than=None if places.get("older") else places.get("newer"),
        tenant=principal.tenant if principal.tenant is not None else form.tenant or None,
        hides_deleting=True,
    )


def _text(value: str | None) -> str:
    text = (value or "").strip()[:MAX_TEXT]
    return text if is_storable(text) else ""


def _moment(text: str, problems: list[str], *, is_end: bool = False) -> datetime | None:
    try:
        return times.parse_moment(text, is_end=is_end) if text else None
    except UsageError as error:
        problems.append(str(error))
        return None


def _with_chosen(names: Sequence[str], chosen: str) -> list[str]:
    return list(names) if not chosen or chosen in names else [*names, chosen]
