"""Following batches: wait for one, stream its results as they land, and stream the changes of all."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from producer.batches import views
from producer.results import export
from producer.server.access import Reader, is_still_valid
from producer.server.context import Context, ServerContext
from producer.server.following import event_stream, streams
from producer.server.following.event_stream import StreamResponse
from producer.server.following.streams import Follow
from producer.server.native import responses, shown
from producer.server.native.batches import objects
from producer.server.native.batches.reading import BatchId
from producer.server.native.batches.results import MEDIA_TYPES, After, Statuses
from producer.tenants.principal import Principal

router = APIRouter(tags=["following"])

MAX_WAIT_SECONDS = 60.0

STREAM: dict[int | str, dict[str, object]] = {
    200: {
        "content": {event_stream.MEDIA_TYPE: {"schema": {"type": "string"}}},
        "description": "A stream of events, with a comment every 15 seconds.",
    }
}


@router.get("/batches/{batch_id}/wait", summary="Wait for a batch", response_model=objects.Batch)
async def wait_for_batch(
    request: Request,
    context: Context,
    principal: Reader,
    batch_id: BatchId,
    timeout: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, description="In seconds.")] = 30.0,
    after_status: Annotated[
        objects.BatchState | None, Query(description="Answer as soon as the batch has another status than this.")
    ] = None,
) -> Response:
    """Answer once the batch has ended, or with the batch as it is at the timeout; ask again then."""
    await to_thread.run_sync(views.check_visible, context.database, batch_id, principal.tenant)
    with context.streams.permit(principal.key_id):  # it keeps a connection as long as a stream does
        await _wait(context, batch_id, timeout, after_status)
    batch = await to_thread.run_sync(context.get_batch, principal, batch_id)
    return responses.json_with_etag(request, shown.batch_object(batch, principal.tenant))


@router.get("/batches/{batch_id}/follow", summary="Follow a batch", response_class=StreamingResponse, responses=STREAM)
async def follow_batch(
    request: Request,
    context: Context,
    principal: Reader,
    batch_id: BatchId,
    after: After = 0,
    status: Statuses = [],  # noqa: B006 (FastAPI copies it)
    results: Annotated[bool, Query(description="False: only the progress and the end.")] = True,
    last_event_id: Annotated[str | None, Header(description="The id of the last event that was read.")] = None,
) -> Response:
    """Stream results as they land, until the batch has ended: as server-sent events, or as lines of JSON.

    Events are `result`, whose id is `seq`; `progress` with the counts; and at last `end` with the batch. A client that
    lost its connection sends `Last-Event-ID`, and misses nothing. With `Accept: application/x-ndjson` each line is a
    result, and an empty line comes every 15 seconds; a response that ends without its last chunk is not complete.
    """
    cursor = event_stream.parse_last_id(last_event_id, after)
    follow = Follow(batch_id, principal.tenant, cursor, export.parse_statuses(status), results)
    await to_thread.run_sync(views.check_visible, context.database, batch_id, principal.tenant)
    if MEDIA_TYPES["ndjson"] in request.headers.get("accept", ""):
        lines = streams.stream_lines(context.database, context.watch, follow)
        return _respond(request, context, principal, lines, MEDIA_TYPES["ndjson"])
    return _respond(request, context, principal, streams.stream_events(context.database, context.watch, follow))


@router.get("/follow", summary="Follow all batches", response_class=StreamingResponse, responses=STREAM)
async def follow_all(request: Request, context: Context, principal: Reader) -> Response:
    """Stream an event `batch` for each batch that has not ended, and then for each change of any batch.

    Several changes of one batch within a second become one event. A client that comes again starts over.
    """
    return _respond(request, context, principal, streams.stream_changes(context.watch, principal.tenant))


def _respond(
    request: Request,
    context: ServerContext,
    principal: Principal,
    parts: AsyncGenerator[bytes],
    media_type: str = event_stream.MEDIA_TYPE,
) -> StreamResponse:
    """The response with a stream, which ends with its key; there is a limit of them."""
    allowed = streams.while_allowed(parts, partial(is_still_valid, request, context))
    return StreamResponse(allowed, media_type, context.streams.permit(principal.key_id))


async def _wait(context: ServerContext, batch_id: str, timeout: float, after_status: str | None) -> None:
    async with context.watch.follow(batch_id) as follower:
        await streams.wait_until(follower, timeout, after_status)
