"""Deleting: a batch with all its jobs and results goes for good."""

from contextlib import suppress

from models.db import Database
from models.errors import UsageError
from models.lifecycle import retention
from models.states import BatchStatus
from producer.batches import cancel as cancelling
from producer.batches import views


def delete(database: Database, batch_id: str, *, cancel: bool = False) -> None:
    """Delete a batch that has ended, or goes on with one whose deletion was broken off.

    With `cancel` an open one is cancelled first. Raises NotFound, and UsageError where it is open.
    """
    batch = views.get_batch(database, batch_id)
    if cancel and not batch.status.has_ended and batch.status is not BatchStatus.DELETING:
        with suppress(UsageError):  # it has ended otherwise meanwhile
            cancelling.cancel(database, batch_id)
    if not retention.begin_deletion(database, batch_id):
        status = views.get_batch(database, batch_id).status.value  # NotFound where somebody else was as quick
        raise UsageError(f"{batch_id} is {status}; wait until it has ended, or add --cancel to end it now")
    retention.finish_deletion(database, batch_id)
