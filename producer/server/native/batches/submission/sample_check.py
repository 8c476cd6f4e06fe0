"""A dry run of a request is bounded in bytes and seconds.

Its rows come in one body of a few megabytes, which may unpack to gigabytes.
"""

import io
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from fastapi import Response

from models.errors import SourceTooLarge
from producer import readers
from producer.dry_run import dry_run as dry_runs
from producer.dry_run.file_trial import try_file
from producer.readers.limits import Limits
from producer.readers.rows import Source
from producer.server.native import responses
from producer.server.native.batches.submission.submitting import Submission
from producer.uploads import files
from producer.uploads.previews.preview import preview_file
from producer.uploads.storage.store import open_store

MAX_BYTES = 64 * 2**20  # unpacked
MAX_SECONDS = 10.0
ADVICE = "send a sample of the rows"


@dataclass(slots=True)
class _Deadline:
    """Ends a dry run that takes too long."""

    ends_at: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)

    def check(self, rows: int) -> None:
        if time.monotonic() > self.ends_at:
            raise SourceTooLarge(f"{rows:,} rows took more than {MAX_SECONDS:.0f} seconds to check; {ADVICE}")


def check_sample(submission: Submission, source: AbstractContextManager[Source]) -> Response:
    """Check all rows of a source; raises SourceTooLarge for one that takes too long."""
    settings, request = submission.context.settings, submission.request
    dry_runs.check_pipeline(request, settings.resolved_database_url)
    deadline = _Deadline()
    with source as rows:
        report = dry_runs.dry_run(request, rows, settings.slice_size, deadline.check)
    report.forecast = dry_runs.forecast_for(
        report, request, settings.resolved_database_url, submission.principal.tenant
    )
    return responses.json_response(report.as_dict())


def check_file(submission: Submission, file_id: str) -> Response:
    """Check the first rows of an uploaded file; raises NotFound."""
    context, tenant = submission.context, submission.request.tenant
    settings = context.settings
    file = files.get_file(context.database, file_id, tenant, "file_id")
    files.check_input(file, "file_id")
    read_request = submission.read_request
    preview = preview_file(settings, open_store(settings), file, read_request.file_format, read_request.column_names)
    trial = try_file(context.database, settings, submission.request, file, read_request, preview.row_count)
    trial.report.forecast = trial.forecast
    document = {**trial.report.as_dict(), "file_rows": trial.row_count, "is_sample": not trial.is_whole}
    return responses.json_response(document)


def check_body(submission: Submission, body: bytes) -> Response:
    """Check the rows of a body, as `check_sample` does."""
    read_request = submission.read_request
    columns = read_request.columns(submission.request.pipeline)
    limits = Limits.from_settings(submission.context.settings)
    limits = replace(limits, max_source_bytes=min(limits.max_source_bytes, MAX_BYTES))
    stream = readers.open_stream(io.BytesIO(body), "the body", read_request.file_format, columns, limits)
    try:
        return check_sample(submission, stream)
    except SourceTooLarge as error:
        if limits.max_source_bytes < MAX_BYTES or ADVICE in str(error):
            raise
        raise SourceTooLarge(f"a dry run reads {MAX_BYTES // 2**20} MiB of unpacked rows at most; {ADVICE}") from None
