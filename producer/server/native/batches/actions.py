"""Acting on batches: cancel, retry and delete; see `long_acts.py` for those that take long."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from models.errors import UsageError
from models.states import JobOutcome
from producer.advice import Door, in_door
from producer.batches import views
from producer.batches.actions.retry import RetrySelection
from producer.batches.views import BatchView
from producer.results import export
from producer.server.access import Submitter
from producer.server.context import Context, ServerContext
from producer.server.native import responses, shown
from producer.server.native.batches import changes, long_acts, objects
from producer.server.native.batches.changes import Requeued
from producer.server.native.batches.long_acts import Reply
from producer.server.native.batches.reading import BatchId
from producer.tenants.principal import Principal

router = APIRouter(tags=["batches"])

IN_PROGRESS: dict[int | str, dict[str, Any]] = {202: {"description": "It takes longer, and goes on."}}


class RetryBody(BaseModel):
    """Which jobs to run again."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"codes": ["out_of_memory"]}})

    status: objects.JobStatus | list[objects.JobStatus] = Field("failed", description="Only jobs with this outcome.")
    codes: str | list[str] = Field([], description="Only failures with one of these codes; empty = any.")
    positions: list[int] = Field([], description="Only these jobs, at most 10,000; empty = any.")
    deadline: str | None = Field(None, description="A new deadline, such as `6h`; null keeps the old one.")


@router.post(
    "/batches/{batch_id}/cancel", summary="Cancel a batch", response_model=objects.Batch, responses=IN_PROGRESS
)
async def cancel_batch(context: Context, principal: Submitter, batch_id: BatchId) -> Response:
    """Cancel a batch, and keep the results that it has."""

    def show(batch: BatchView) -> Response:
        return responses.json_response(shown.batch_object(batch, principal.tenant))

    act = changes.cancel_act(context, principal, batch_id)
    return await long_acts.perform(act, Reply(show, lambda: show_later(context, principal, batch_id)))


@router.post(
    "/batches/{batch_id}/retry", summary="Retry failed jobs", response_model=objects.Requeued, responses=IN_PROGRESS
)
async def retry_batch(
    context: Context, principal: Submitter, batch_id: BatchId, body: RetryBody | None = None
) -> Response:
    """Run jobs of an ended batch again, in the same places; the new results replace the old ones."""
    body = body or RetryBody.model_validate({})
    outcomes = export.parse_statuses(body.status)
    if not outcomes or JobOutcome.SUCCEEDED in outcomes:
        raise UsageError("a retry takes jobs with the status failed, cancelled or expired", param="status")
    codes = (body.codes,) if isinstance(body.codes, str) else tuple(body.codes)
    selection = RetrySelection(outcomes, codes, tuple(body.positions))
    act = changes.retry_act(context, principal, batch_id, selection, body.deadline)
    return await long_acts.perform(act, reply_requeued(context, principal, batch_id))


@router.delete(
    "/batches/{batch_id}", summary="Delete a batch", response_model=objects.DeletedBatch, responses=IN_PROGRESS
)
async def delete_batch(
    context: Context,
    principal: Submitter,
    batch_id: BatchId,
    cancel: Annotated[bool, Query(description="Cancel the batch first if it has not ended.")] = False,
) -> Response:
    """Delete a batch with its jobs and results, for good."""

    def deleted(*, is_done: bool) -> Response:
        document = {"id": batch_id, "object": "batch.deleted", "deleted": is_done}
        return responses.json_response(document, 200 if is_done else 202)

    act = changes.delete_act(context, principal, batch_id, cancel=cancel)
    return await long_acts.perform(act, Reply(lambda _: deleted(is_done=True), lambda: deleted(is_done=False)))


def reply_requeued(context: ServerContext, principal: Principal, batch_id: str) -> Reply[Requeued]:
    """Answer with the batch whose jobs run again."""

    def show(requeued: Requeued) -> Response:
        result = requeued.result
        return responses.json_response(
            {
                "object": "batch.requeued",
                "requeued_jobs": result.jobs,
                "advice": result.advice and in_door(result.advice, Door.HTTP),
                "warning": requeued.warning,
                "batch": shown.batch_object(views.get_batch(context.database, result.batch_id), principal.tenant),
            }
        )

    return Reply(show, lambda: show_reopened(context, principal, batch_id))


def show_later(context: ServerContext, principal: Principal, batch_id: str) -> Response:
    """The batch as it is while an act goes on."""
    return responses.json_response(shown.batch_object(context.get_batch(principal, batch_id), principal.tenant), 202)


def show_reopened(context: ServerContext, principal: Principal, batch_id: str) -> Response | None:
    """The batch once an act has reopened it, so that it can't be refused as a whole any more; None before."""
    batch = context.get_batch(principal, batch_id)
    if batch.status.has_ended:
        return None
    return responses.json_response(shown.batch_object(batch, principal.tenant), 202)
