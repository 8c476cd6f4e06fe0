"""Cancel and delete a batch: first a page or a dialog that shows what that affects, then the act itself."""

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from models.errors import BatchmillError
from producer.batches.actions import readers_of_batch
from producer.batches.actions.cancel import CANCELLABLE
from producer.batches.reading_state import find_reading_state
from producer.batches.views import BatchView
from producer.server.context import Context, ServerContext
from producer.server.native.batches import changes, long_acts
from producer.server.native.batches.long_acts import Reply
from producer.server.native.batches.reading import BatchId
from producer.server.pages.access.visitor import ActionForm, PageSubmitter, Visitor
from producer.server.pages.batches.refusals import confirm, refusal_of
from producer.server.pages.frame.rendering import see_other

router = APIRouter()

STOPPED_READING = "The batch was cancelled while its rows were being read; none of them runs."
WAIT_SECONDS = 1.0  # for an act; then the page shows that it goes on


@router.get("/batches/{batch_id}/cancel")
def confirm_cancel(request: Request, context: Context, visitor: PageSubmitter, batch_id: BatchId) -> Response:
    """Show how many jobs will not run."""
    return _confirm_cancel(request, context, visitor, batch_id)


@router.post("/batches/{batch_id}/cancel")
async def cancel(
    request: Request, context: Context, visitor: PageSubmitter, _form: ActionForm, batch_id: BatchId
) -> Response:
    """Cancel a batch, and show it."""
    act = changes.cancel_act(context, visitor.principal, batch_id)
    address = f"/batches/{batch_id}"

    def show(batch: BatchView) -> Response:
        if find_reading_state(context.database, batch).is_cut_off:
            return see_other(request, visitor, address, STOPPED_READING)
        cancelled = "1 job was" if batch.counts.cancelled == 1 else f"{batch.counts.cancelled:,} jobs were"
        return see_other(request, visitor, address, f"{cancelled} cancelled; the results so far are kept.")

    def show_meanwhile() -> Response:
        return see_other(request, visitor, address, "The batch is being cancelled; the results so far are kept.")

    try:
        return await long_acts.perform(act, Reply(show, show_meanwhile, WAIT_SECONDS))
    except BatchmillError as error:
        return await run_in_threadpool(_confirm_cancel, request, context, visitor, batch_id, error)


@router.get("/batches/{batch_id}/delete")
def confirm_delete(request: Request, context: Context, visitor: PageSubmitter, batch_id: BatchId) -> Response:
    """Show what is lost, and what still reads it."""
    return _confirm_delete(request, context, visitor, batch_id)


@router.post("/batches/{batch_id}/delete")
async def delete(
    request: Request, context: Context, visitor: PageSubmitter, form: ActionForm, batch_id: BatchId
) -> Response:
    """Delete a batch for good, and show the others."""
    act = changes.delete_act(context, visitor.principal, batch_id, cancel=form.get("cancel") == "yes")

    def show(message: str) -> Response:
        return see_other(request, visitor, "/batches", message)

    reply: Reply[None] = Reply(
        lambda _: show(f"{batch_id} was deleted."), lambda: show(f"{batch_id} is being deleted."), WAIT_SECONDS
    )
    try:
        return await long_acts.perform(act, reply)
    except BatchmillError as error:
        return await run_in_threadpool(_confirm_delete, request, context, visitor, batch_id, error)


def _confirm_cancel(
    request: Request, context: ServerContext, visitor: Visitor, batch_id: str, error: BatchmillError | None = None
) -> Response:
    batch = context.get_batch(visitor.principal, batch_id)
    refusal = None if error is None else refusal_of(error, batch)
    values: dict[str, Any] = {"batch": batch, "can_cancel": batch.status in CANCELLABLE}
    return confirm(request, visitor, "batches/_cancel.html", "Cancel a batch", refusal, values)


def _confirm_delete(
    request: Request, context: ServerContext, visitor: Visitor, batch_id: str, error: BatchmillError | None = None
) -> Response:
    batch = context.get_batch(visitor.principal, batch_id)
    refusal = None if error is None else refusal_of(error, batch)
    values: dict[str, Any] = {
        "batch": batch,
        "readers": readers_of_batch.find_readers(context.database, batch_id),
        "reading": find_reading_state(context.database, batch),
    }
    return confirm(request, visitor, "batches/_delete.html", "Delete a batch", refusal, values)
