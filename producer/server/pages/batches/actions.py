"""Cancel and delete a batch: first a page or a dialog that shows what that affects, then the act itself."""

from fastapi import APIRouter, Request, Response

from producer.batches import readers_of_batch
from producer.batches.cancel import CANCELLABLE
from producer.batches.views import BatchView
from producer.server.context import Context
from producer.server.native.batches import changes, long_acts
from producer.server.native.batches.long_acts import Reply
from producer.server.native.batches.reading import BatchId
from producer.server.pages.access.visitor import ActionForm, PageSubmitter
from producer.server.pages.frame.rendering import confirm, see_other

router = APIRouter()

WAIT_SECONDS = 1.0  # for an act; then the page shows that it goes on


@router.get("/batches/{batch_id}/cancel")
def confirm_cancel(request: Request, context: Context, visitor: PageSubmitter, batch_id: BatchId) -> Response:
    """Show how many jobs will not run."""
    batch = context.get_batch(visitor.principal, batch_id)
    values = {"batch": batch, "can_cancel": batch.status in CANCELLABLE}
    return confirm(request, visitor, "batches/_cancel.html", "Cancel a batch", **values)


@router.post("/batches/{batch_id}/cancel")
async def cancel(
    request: Request, context: Context, visitor: PageSubmitter, _form: ActionForm, batch_id: BatchId
) -> Response:
    """Cancel a batch, and show it."""
    act = changes.cancel_act(context, visitor.principal, batch_id)
    address = f"/batches/{batch_id}"

    def show(batch: BatchView) -> Response:
        cancelled = "1 job was" if batch.counts.cancelled == 1 else f"{batch.counts.cancelled:,} jobs were"
        return see_other(request, visitor, address, f"{cancelled} cancelled; the results so far are kept.")

    def show_meanwhile() -> Response:
        return see_other(request, visitor, address, "The batch is being cancelled; the results so far are kept.")

    return await long_acts.perform(act, Reply(show, show_meanwhile, WAIT_SECONDS))


@router.get("/batches/{batch_id}/delete")
def confirm_delete(request: Request, context: Context, visitor: PageSubmitter, batch_id: BatchId) -> Response:
    """Show what is lost, and what still reads it."""
    batch = context.get_batch(visitor.principal, batch_id)
    values = {"batch": batch, "readers": readers_of_batch.find_readers(context.database, batch_id)}
    return confirm(request, visitor, "batches/_delete.html", "Delete a batch", **values)


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
    return await long_acts.perform(act, reply)
