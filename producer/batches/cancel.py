"""Cancelling: a batch stops within the micro-batch that is on the device; what is done stays, the rest is cancelled."""

from models.db import Database
from models.errors import UsageError
from models.lifecycle import termination
from models.states import BatchStatus, Termination
from producer.batches import views
from producer.batches.views import BatchView

CANCELLABLE = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS)


def cancel(database: Database, batch_id: str) -> BatchView:
    """End a batch now; returns it as it is then. To cancel twice is fine.

    Raises NotFound, and UsageError where it has ended otherwise.
    """
    batch = views.get_batch(database, batch_id)
    begun = (
        termination.terminate(database, batch.id, Termination.CANCELLED, None, None, from_statuses=CANCELLABLE)
        is not None
    )
    termination.finish_termination(database, batch.id)  # also what somebody else began and did not finish
    batch = views.get_batch(database, batch_id)
    if not begun and batch.status is not BatchStatus.CANCELLED:
        raise UsageError(f"{batch_id} is {batch.status.value} already, so there is nothing to cancel")
    return batch
