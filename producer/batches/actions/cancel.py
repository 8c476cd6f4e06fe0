"""Cancelling ends a batch early.

Finished jobs keep their results, and all others are cancelled. A worker stops within the micro-batch on its device.
"""

from models.db import Database
from models.errors import UsageError
from models.lifecycle import termination
from models.states import BatchStatus, Termination
from producer.batches import views
from producer.batches.views import BatchView

CANCELLABLE = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS)


def cancel(database: Database, batch_id: str) -> BatchView:
    """Cancel a batch and return its view afterwards; a second call is harmless.

    Raises NotFound, and UsageError when the batch has ended in another way.
    """
    batch = views.get_batch(database, batch_id)
    closed_jobs = termination.terminate(
        database, batch.id, Termination.CANCELLED, None, None, from_statuses=CANCELLABLE
    )
    termination.finish_termination(database, batch.id)  # also one that another process began and did not finish
    batch = views.get_batch(database, batch_id)
    if closed_jobs is None and batch.status is not BatchStatus.CANCELLED:
        raise UsageError(f"{batch_id} is {batch.status.value} already, so there is nothing to cancel")
    return batch
