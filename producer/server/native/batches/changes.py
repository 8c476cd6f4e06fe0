"""The changes of batches that the API and the pages make: cancel, retry and delete; see `long_acts.py`."""

from dataclasses import dataclass

from producer.batches import cancel as cancelling
from producer.batches import delete as deleting
from producer.batches import retry as retrying
from producer.batches.retry import RetryResult, RetrySelection
from producer.batches.views import BatchView
from producer.server.context import ServerContext
from producer.server.native.batches import long_acts, warnings
from producer.server.native.batches.long_acts import Act
from producer.tenants.principal import Principal
from producer.times import Deadline


@dataclass(frozen=True, slots=True)
class Requeued:
    """Jobs that run again.

    warning: why workers were not woken; None = they were
    """

    result: RetryResult
    warning: str | None


def cancel_act(context: ServerContext, principal: Principal, batch_id: str) -> Act[BatchView]:
    """Cancel a batch, and keep the results that it has."""

    def run() -> BatchView:
        context.get_batch(principal, batch_id)
        return cancelling.cancel(context.database, batch_id)

    return Act(("cancel", batch_id), principal.tenant, run, long_acts.CHANGES)


def retry_act(
    context: ServerContext, principal: Principal, batch_id: str, selection: RetrySelection, deadline: str | None
) -> Act[Requeued]:
    """Run jobs of an ended batch again; raises UsageError for a deadline that is none.

    deadline: as the request has it; None keeps the old one
    """
    when = None if deadline is None else Deadline.parse_future(deadline)

    def run() -> Requeued:
        context.get_batch(principal, batch_id)
        size, cap_of = context.settings.slice_size, context.settings.unanswered_jobs_cap
        return requeue(context, retrying.retry_jobs(context.database, batch_id, selection, size, when, cap_of))

    return Act(("retry", batch_id, selection, deadline), principal.tenant, run, long_acts.CHANGES)


def delete_act(context: ServerContext, principal: Principal, batch_id: str, *, cancel: bool) -> Act[None]:
    """Delete a batch with its jobs and results, for good.

    cancel: cancel it first if it has not ended
    """

    def run() -> None:
        context.get_batch(principal, batch_id)
        deleting.delete(context.database, batch_id, cancel=cancel)

    return Act(("delete", batch_id, cancel), principal.tenant, run, long_acts.CHANGES)


def requeue(context: ServerContext, result: RetryResult) -> Requeued:
    """Wake workers for requeued jobs."""
    return Requeued(result, warnings.notify_workers(context.settings, result.pipeline, result.slices))
