"""`GET /api/batches…`: list batches, show one, and explain what it waits for."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from models.errors import UsageError
from producer import times
from producer.batches import blockers, views
from producer.batches.listing import BatchFilter
from producer.error_params import naming
from producer.results import attempts as history
from producer.server.access import Reader
from producer.server.context import Context
from producer.server.native import responses, shown
from producer.server.native.batches import objects

router = APIRouter(tags=["batches"])

BatchId = Annotated[str, Path(description="The batch's id.", examples=[objects.EXAMPLE_ID], max_length=100)]


@router.get("/batches", summary="List batches", response_model=objects.BatchList)
def list_batches(
    context: Context,
    principal: Reader,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 20,
    after: Annotated[str | None, Query(max_length=100, description="The id of a batch; only older ones.")] = None,
    status: Annotated[list[objects.BatchState], Query(max_length=8, description="Only these; may be repeated.")] = [],  # noqa: B006
    pipeline: Annotated[str | None, Query(max_length=200)] = None,
    name: Annotated[str | None, Query(max_length=200, description="`*` stands for any text.")] = None,
    since: Annotated[str | None, Query(max_length=100, description="`2026-11-25`, or `6h` for six hours ago.")] = None,
    until: Annotated[str | None, Query(max_length=100, description="A date counts as a whole day.")] = None,
    search: Annotated[
        str | None, Query(max_length=200, description="A part of the name or the metadata, or the beginning of an id.")
    ] = None,
) -> Response:
    """List batches, the newest first."""
    batch_filter = BatchFilter(
        status or None,
        pipeline,
        name,
        None if since is None else times.parse_moment(since, param="since"),
        None if until is None else times.parse_moment(until, is_end=True, param="until"),
        after,
        tenant=principal.tenant,
        search=search,
    )
    batches = views.list_batches(context.database, limit + 1, batch_filter)
    data = [shown.batch_object(batch, principal.tenant) for batch in batches[:limit]]
    return responses.list_response(data, has_more=len(batches) > limit, last_id=data[-1]["id"] if data else None)


@router.get(
    "/batches/{batch_id}",
    summary="Show a batch",
    response_model=objects.Batch,
    responses={304: {"description": "The batch is as the `If-None-Match` header knows it."}},
)
def show_batch(request: Request, context: Context, principal: Reader, batch_id: BatchId) -> Response:
    """Show one batch, with an ETag for `If-None-Match`."""
    return responses.json_with_etag(
        request, shown.batch_object(context.get_batch(principal, batch_id), principal.tenant)
    )


@router.get("/batches/{batch_id}/blockers", summary="Say what a batch waits for", response_model=objects.BlockerList)
def list_blockers(context: Context, principal: Reader, batch_id: BatchId) -> Response:
    """List the reasons why no worker works on the batch now."""
    settings = context.settings
    batch = context.get_batch(principal, batch_id)
    reasons = blockers.find_blockers(context.database, batch, settings.lease_seconds, settings.home_path)
    return responses.list_response(shown.blocker_objects(reasons, batch.pipeline, principal.tenant))


@router.get("/batches/{batch_id}/attempts", summary="List attempts", response_model=objects.AttemptList)
def list_attempts(
    context: Context,
    principal: Reader,
    batch_id: BatchId,
    position: Annotated[int | None, Query(ge=0, lt=2**63, description="Only this job, with all its attempts.")] = None,
    custom_id: Annotated[str | None, Query(max_length=1_000, description="The same by the job's custom_id.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> Response:
    """List the last failed and retried attempts of a batch, or every attempt and result of one job."""
    if position is not None and custom_id is not None:
        raise UsageError("position and custom_id both name the job; give one of them", param="custom_id")
    context.get_batch(principal, batch_id)
    if custom_id is not None:
        with naming("custom_id"):
            position = history.find_position(context.database, batch_id, custom_id)
    if position is not None:
        attempts = history.job_history(context.database, batch_id, position)
    else:
        attempts = history.list_attempts(context.database, batch_id, limit)
    return responses.list_response([attempt.as_dict() for attempt in attempts])
