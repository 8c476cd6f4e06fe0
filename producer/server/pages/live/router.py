"""`/events/…`: the streams of open pages, which a page's script reads."""

from collections.abc import Hashable
from functools import partial
from typing import Annotated, NamedTuple

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request, Response

from producer.batches import views
from producer.readers.storable import is_storable
from producer.schedules import registry, reports
from producer.server.context import Context, ServerContext
from producer.server.following import event_stream
from producer.server.following.event_stream import StreamResponse
from producer.server.pages.access.visitor import PageAdmin, PageReader, Visitor, is_session_valid
from producer.server.pages.live import parts, streams
from producer.server.pages.live.batch_rows import MAX_FOLLOWER_ROWS
from producer.server.pages.live.channel import ChannelKey
from producer.server.pages.live.followers import PageFollower
from producer.server.pages.live.hub import LiveHub
from producer.server.pages.operations import pipeline_page, usage, workers
from producer.server.pages.operations.pipeline_page import PipelineName
from producer.server.pages.operations.usage import UsageFilter
from producer.server.pages.schedules import addresses
from producer.server.pages.schedules.addresses import ScheduleName
from producer.server.pages.schedules.schedule_list import ScheduleFilter

router = APIRouter(prefix="/events")

MAX_ID = 200

# Milliseconds since 1970, by the server's clock: what was rendered before, the page shows already.
Since = Annotated[int, Query(ge=0, le=2**53)]

Filter = Annotated[str, Query(max_length=MAX_ID)]


class _Shown(NamedTuple):
    """What an open page shows, as `ChannelKey` has it."""

    kind: str
    subject: Hashable
    path: str


def row_ids(rows: str) -> list[str]:
    """Return the ids in a list with commas; none that PostgreSQL refuses, which would fail for all who follow. Pure."""
    ids = rows.split(",", MAX_FOLLOWER_ROWS)[:MAX_FOLLOWER_ROWS]
    return [batch_id for batch_id in ids if batch_id and is_storable(batch_id)]


def _usage_filter(
    first: Filter = "", last: Filter = "", tenant: Filter = "", pipeline: Filter = "", measure: Filter = ""
) -> UsageFilter:
    """The filter of the report, whose days have other names here, since a stream has its `since`."""
    return UsageFilter(first, last, tenant, pipeline, measure)


@router.get("/check")
async def check_session(context: Context, visitor: PageReader) -> Response:
    """Answer whether the session is still valid and may have a stream, for a page that lost its stream."""
    context.streams.check(visitor.principal.key_id)
    return Response(status_code=204, headers={"cache-control": "no-store"})


@router.get("/pulse")
async def follow_nothing(request: Request, context: Context, visitor: PageReader) -> Response:
    """Stream signs of life to a page without live parts, so that it can say when the connection is lost."""
    return _respond(request, context, visitor, _Shown("pulse", "", ""), PageFollower(0))


@router.get("/overview")
async def follow_overview(request: Request, context: Context, visitor: PageReader, since: Since = 0) -> Response:
    """Stream the parts of the first page."""
    return _respond(request, context, visitor, _Shown("overview", "", "/"), PageFollower(since))


@router.get("/batches")
async def follow_list(
    request: Request,
    context: Context,
    visitor: PageReader,
    since: Since = 0,
    rows: Annotated[str, Query(max_length=MAX_FOLLOWER_ROWS * MAX_ID)] = "",
) -> Response:
    """Stream the rows of the list that change, and the ids of new batches.

    rows: ids of the batches in the list, with commas between them
    """
    return _respond(request, context, visitor, _Shown("batches", "", "/batches"), PageFollower(since, row_ids(rows)))


@router.get("/batches/{batch_id}")
async def follow_batch(
    request: Request, context: Context, visitor: PageReader, batch_id: str, since: Since = 0
) -> Response:
    """Stream the parts of the page of a batch."""
    await to_thread.run_sync(views.check_visible, context.database, batch_id, visitor.principal.tenant)
    return _respond(request, context, visitor, _Shown("batch", batch_id, f"/batches/{batch_id}"), PageFollower(since))


@router.get("/schedules")
async def follow_schedules(
    request: Request,
    context: Context,
    visitor: PageReader,
    since: Since = 0,
    name: Filter = "",
    state: Filter = "",
    tenant: Filter = "",
    after: Filter = "",
) -> Response:
    """Stream the list of schedules."""
    chosen = ScheduleFilter(name, state, tenant, after)
    return _respond(request, context, visitor, _Shown("schedules", chosen, "/schedules"), PageFollower(since))


@router.get("/schedules/{name}")
async def follow_schedule(
    request: Request, context: Context, visitor: PageReader, name: ScheduleName, since: Since = 0
) -> Response:
    """Stream the parts of the page of a schedule."""
    await to_thread.run_sync(registry.get, context.database, name, visitor.principal.tenant)
    return _respond(request, context, visitor, _Shown("schedule", name, f"/schedules/{name}"), PageFollower(since))


@router.get("/schedules/{name}/runs/{time}")
async def follow_run(
    request: Request, context: Context, visitor: PageReader, name: ScheduleName, time: str, since: Since = 0
) -> Response:
    """Stream the parts of the page of a run."""
    scheduled_at = addresses.parse_run_time(time)
    await to_thread.run_sync(reports.find_run_at, context.database, name, scheduled_at, visitor.principal.tenant)
    path = addresses.run_address(name, scheduled_at)
    return _respond(request, context, visitor, _Shown("run", (name, scheduled_at), path), PageFollower(since))


@router.get("/workers")
async def follow_workers(
    request: Request,
    context: Context,
    visitor: PageAdmin,
    since: Since = 0,
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> Response:
    """Stream the worker processes and the rest of the system, to the operator."""
    workers.check_operator(visitor.principal)
    return _respond(request, context, visitor, _Shown("workers", page, "/workers"), PageFollower(since))


@router.get("/pipelines")
async def follow_pipelines(
    request: Request, context: Context, visitor: PageReader, since: Since = 0, q: Filter = ""
) -> Response:
    """Stream the pipelines in which a text is found."""
    return _respond(request, context, visitor, _Shown("pipelines", q, "/pipelines"), PageFollower(since))


@router.get("/pipelines/{name}")
async def follow_pipeline(
    request: Request, context: Context, visitor: PageReader, name: PipelineName, since: Since = 0
) -> Response:
    """Stream the parts of the page of a pipeline."""
    if name not in context.catalogue:
        await to_thread.run_sync(pipeline_page.read_pipeline, context, visitor.principal, name)
    return _respond(request, context, visitor, _Shown("pipeline", name, f"/pipelines/{name}"), PageFollower(since))


@router.get("/usage")
async def follow_usage(
    request: Request,
    context: Context,
    visitor: PageReader,
    chosen: Annotated[UsageFilter, Depends(_usage_filter)],
    since: Since = 0,
) -> Response:
    """Stream the report on usage."""
    usage.owner_of(visitor.principal, chosen.tenant)
    return _respond(request, context, visitor, _Shown("usage", chosen, "/usage"), PageFollower(since))


def _respond(
    request: Request, context: ServerContext, visitor: Visitor, shown: _Shown, follower: PageFollower
) -> Response:
    key = ChannelKey(*shown, parts.audience_of(visitor.principal))
    hub: LiveHub = request.app.state.live_hub
    is_allowed = partial(is_session_valid, request, context)
    permit = context.streams.permit(visitor.principal.key_id)
    return StreamResponse(streams.stream_page(hub, key, follower, is_allowed), event_stream.MEDIA_TYPE, permit)
