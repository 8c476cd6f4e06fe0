"""The changes of batches that the API and the pages make: cancel, retry, repair and delete; see `long_acts.py`."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from models.errors import InvalidRows, UnreadableSource
from producer import readers
from producer.batches.actions import cancel as cancelling
from producer.batches.actions import delete as deleting
from producer.batches.actions import retry as retrying
from producer.batches.actions.retry import RetryResult, RetrySelection
from producer.batches.views import BatchView
from producer.error_params import naming
from producer.readers.files.compression import decompress
from producer.readers.files.sniffing import find_format
from producer.readers.items import open_items
from producer.readers.limits import Limits
from producer.readers.rows import Source
from producer.server.context import ServerContext
from producer.server.native.batches import long_acts
from producer.server.native.batches.long_acts import Act
from producer.server.native.batches.submission import warnings
from producer.submission.repairs.repair import repair_jobs
from producer.submission.repairs.repair_columns import RENAMING_ADVICE, RepairColumns
from producer.tenants.principal import Principal
from producer.times import Deadline
from producer.uploads.multipart import Upload
from producer.uploads.storage.store import open_store

MAX_REPAIR_BYTES = 64 * 2**20  # uncompressed; a repair is read while its client waits


@dataclass(frozen=True, slots=True)
class Requeued:
    """Jobs that run again.

    warning: why workers were not woken; None = they were
    """

    result: RetryResult
    warning: str | None


@dataclass(frozen=True, slots=True)
class CorrectedRows:
    """The rows of a repair.

    content: objects, or a file that is deleted after the repair
    digest: equal for equal rows
    file_format: of the file, one of FILE_FORMATS; None = by its name, or else by its content
    name: of the file in messages
    """

    content: Sequence[dict[str, Any]] | Upload
    digest: str
    file_format: str | None = None
    name: str = "the body"


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


def repair_act(
    context: ServerContext, principal: Principal, batch_id: str, rows: CorrectedRows, deadline: str | None
) -> Act[Requeued]:
    """Put corrected rows in the places of failed jobs of an ended batch, and run them.

    deadline: as the request has it; None keeps the old one
    """

    def run() -> Requeued:
        with ExitStack() as cleanup:
            cleanup.callback(discard)
            context.get_batch(principal, batch_id)
            columns = RepairColumns.for_batch(context.database, batch_id, advice=RENAMING_ADVICE)
            when = None if deadline is None else Deadline.parse_future(deadline)
            if not isinstance(rows.content, Upload):
                cleanup.enter_context(naming("inputs", InvalidRows, UnreadableSource))
            with _open_rows(context, columns, rows) as source:
                size, cap_of = context.settings.slice_size, context.settings.unanswered_jobs_cap
                return requeue(context, repair_jobs(context.database, batch_id, source, size, when, cap_of))

    def discard() -> None:
        if isinstance(rows.content, Upload):
            open_store(context.settings).delete(rows.content.stored.location)

    key = ("repair", batch_id, rows.file_format, rows.digest, deadline)
    return Act(key, principal.tenant, run, long_acts.REPAIRS, discard)


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
    return Requeued(result, warnings.notify_workers(context, result.pipeline, result.slices))


@contextmanager
def _open_rows(context: ServerContext, columns: RepairColumns, rows: CorrectedRows) -> Iterator[Source]:
    limits = Limits.from_settings(context.settings)
    limits = replace(limits, max_source_bytes=min(limits.max_source_bytes, MAX_REPAIR_BYTES))
    if not isinstance(rows.content, Upload):
        yield open_items(rows.content, None, columns, limits)
        return
    store, location = open_store(context.settings), rows.content.stored.location
    file_format = rows.file_format
    if file_format is None:
        with store.open(location) as stream:
            file_format = find_format(rows.content.filename, decompress(stream, rows.name))
    with store.open(location) as stream, readers.open_stream(stream, rows.name, file_format, columns, limits) as source:
        yield source
