"""Deleting removes a batch with all its jobs and results for good."""

from contextlib import suppress

from models.db import Database
from models.errors import UsageError
from models.lifecycle import retention
from models.states import BatchStatus
from producer.advice import DoorText
from producer.batches import views
from producer.batches.actions import cancel as cancelling

CANCEL_TOO = DoorText(
    "add --cancel to end it now", http="add ?cancel=true to end it now", page="choose to cancel it first"
)


def delete(database: Database, batch_id: str, *, cancel: bool = False) -> None:
    """Delete a batch that has ended, or resume a deletion that was interrupted.

    cancel: cancel the batch first if it has not ended

    Raises NotFound, and UsageError when the batch has not ended.
    """
    batch = views.get_batch(database, batch_id)
    if cancel and not batch.status.has_ended and batch.status is not BatchStatus.DELETING:
        with suppress(UsageError):  # the batch ended in another way in the meantime
            cancelling.cancel(database, batch_id)
    if not retention.begin_deletion(database, batch_id):
        status = views.get_batch(database, batch_id).status.value  # NotFound if another process deleted it first
        raise UsageError(f"{batch_id} is {status}; wait until it has ended, or " + CANCEL_TOO)
    retention.finish_deletion(database, batch_id)
