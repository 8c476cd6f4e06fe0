"""A dry run of an uploaded file: its first rows are checked, and what they show is extended to the whole file."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from models.db import Database
from models.errors import SourceTooLarge
from models.settings import Settings
from producer.dry_run import dry_run as dry_runs
from producer.dry_run import forecast as forecasts
from producer.dry_run.dry_run import DryRunReport
from producer.dry_run.forecast import Forecast
from producer.readers.limits import Limits, OutOfTime, count_characters
from producer.readers.rows import Problem, Row
from producer.submission.request import SubmitRequest
from producer.uploads.files import FileView
from producer.uploads.intake import sources
from producer.uploads.intake.read_request import ReadRequest
from producer.uploads.storage.store import open_store
from producer.workers import model_checks

MAX_ROWS, MAX_CHARACTERS, MAX_SECONDS = 10_000, 16 * 2**20, 3.0
MAX_READ_SECONDS = 6.0  # also without a row
MAX_BYTES = 64 * 2**20  # unpacked; a megabyte of gzip may have a gigabyte of blank lines


@dataclass(frozen=True, slots=True)
class FileTrial:
    """What the first rows of a file show.

    is_whole: they are all rows
    row_count: of the file, None = not known
    forecast: of all rows, as far as their number is known, else of those that were read; None = nothing compares
    """

    report: DryRunReport
    is_whole: bool
    row_count: int | None
    forecast: Forecast | None


@dataclass(slots=True)
class _FirstRows:
    """The first rows of a source, until there are enough of them or it takes too long."""

    rows: Iterator[Row | Problem]
    is_cut: bool  # whether the reader stops at MAX_BYTES, where the operator's limit is higher
    ends_at: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)
    count: int = 0
    characters: int = 0
    is_whole: bool = False

    def __iter__(self) -> Iterator[Row | Problem]:
        while (row := self._next()) is not None:
            self.count += 1
            self.characters += count_characters(row.raw_input)
            yield row

    def _next(self) -> Row | Problem | None:
        if self.count and self._is_enough():
            return None
        try:
            row = next(self.rows, None)
        except SourceTooLarge as error:
            if not self.count if isinstance(error, OutOfTime) else not self.is_cut:
                raise
            return None
        self.is_whole = row is None
        return row

    def _is_enough(self) -> bool:
        return self.count >= MAX_ROWS or self.characters >= MAX_CHARACTERS or time.monotonic() > self.ends_at


def try_file(
    database: Database,
    settings: Settings,
    request: SubmitRequest,
    file: FileView,
    read_request: ReadRequest,
    row_count: int | None,
) -> FileTrial:
    """Check the first rows of a file as a submission would, and write nothing.

    row_count: of the file as far as it is known without reading it

    Raises SettingsError and InvalidParameters as a submission does, UnreadableSource where the file is not in its
    format, SourceNotReady and FileStoreUnavailable.
    """
    model_checks.check_before_submit(database, request.pipeline, request.parameters)
    store = open_store(settings)
    store.check_whole(file.location or "", file.size_bytes or 0)
    limits = Limits.from_settings(settings)
    cut = replace(limits, max_source_bytes=min(limits.max_source_bytes, MAX_BYTES), max_seconds=MAX_READ_SECONDS)
    with sources.open_file(cut, store, file.location or "", "the file", request.pipeline, read_request) as source:
        first_rows = _FirstRows(source.rows, is_cut=cut.max_source_bytes < limits.max_source_bytes)
        report = dry_runs.dry_run(request, replace(source, rows=iter(first_rows)), settings.slice_size)
    rows = report.rows if first_rows.is_whole else row_count
    if rows is not None:
        report.slices = -(-rows // settings.slice_size)
    past_batches = forecasts.recent_batches(database, request.pipeline, request.parameters, request.tenant)
    share = max(rows or 0, report.rows) / report.rows if report.rows else 1.0
    forecast = forecasts.forecast(past_batches, round(report.jobs * share), report.characters * share)
    return FileTrial(report, first_rows.is_whole, rows, forecast)
