"""A batch that fails while its request waits is refused as a small one is: it is deleted, and its key is free again."""

from typing import Any

from models.errors import BatchmillError, InvalidRows, TooManyJobs, UsageError
from producer.batches.actions import delete as deleting
from producer.batches.batch_view import BatchView
from producer.server.context import ServerContext

OUR_FAILURES = ("internal_error", "intake_crashed")
RETRY_SECONDS = 60.0  # for a tenant that has all the jobs that it may have


def refuse_failed(context: ServerContext, batch: BatchView) -> None:
    """Delete a new batch whose rows could not become jobs, and raise the reason; does nothing to others."""
    if not batch.input_errors:
        return
    deleting.delete(context.database, batch.id)
    raise _as_error(batch)


def _as_error(batch: BatchView) -> BatchmillError:
    code, message = batch.error_code or "", batch.error_message or "its rows can't be jobs"
    if code == InvalidRows.code:
        return InvalidRows("the body", [_describe(error) for error in batch.input_errors])
    if code == TooManyJobs.code:
        return TooManyJobs(message, RETRY_SECONDS)
    error = BatchmillError(message) if code in OUR_FAILURES else UsageError(message)
    error.code = code
    return error


def _describe(error: dict[str, Any]) -> str:
    line, message = error.get("line"), error.get("message", "")
    return message if line is None else f"line {line}: {message}"
