"""One batch in a database."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.db import Database
from models.settings import Settings
from producer.batch_access import Outcomes, UpdateView
from producer.batches import blockers, views
from producer.batches.actions import cancel, delete, retry
from producer.batches.actions.retry import RetryResult, RetrySelection
from producer.batches.batch_view import BatchView
from producer.batches.blocker import Blocker
from producer.batches.progress.progress_tracker import ProgressTracker
from producer.live_view.show import show_progress
from producer.readers.frames.frame import Table
from producer.readers.items import open_items
from producer.readers.limits import Limits
from producer.results import export, following, pages
from producer.results.result_row import ResultRow
from producer.submission import submit
from producer.submission.repairs.repair import repair_jobs
from producer.submission.repairs.repair_columns import RENAMING_ADVICE, RepairColumns
from producer.times import Deadline

if TYPE_CHECKING:
    import numpy
    import pyarrow


class LocalBatch:
    """A batch in a database; `BatchHandle` describes the methods."""

    def __init__(self, database: Database, settings: Settings, batch_id: str) -> None:
        self.batch_id = batch_id
        self._database = database
        self._settings = settings

    def get(self) -> BatchView:
        """Return the batch as it is now."""
        return views.get_batch(self._database, self.batch_id)

    def show_progress(self) -> AbstractContextManager[UpdateView]:
        """Show a bar or a display; raises NotFound before anything is shown."""
        settings = self._settings
        self.get()
        tracker = ProgressTracker(self._database, self.batch_id, settings.lease_seconds, settings.home_path)
        return show_progress(tracker)

    def find_blockers(self) -> list[Blocker]:
        """Return the reasons why nobody works on it."""
        return blockers.find_blockers(self._database, self.get(), home=self._settings.home_path)

    def cancel(self) -> BatchView:
        """Cancel it."""
        return cancel.cancel(self._database, self.batch_id)

    def retry(
        self, outcomes: Outcomes, codes: Sequence[str], positions: Sequence[int], deadline: Deadline | None
    ) -> str | None:
        """Run jobs again."""
        selection = RetrySelection(tuple(outcomes), tuple(codes), tuple(positions))
        size, cap_of = self._settings.slice_size, self._settings.unanswered_jobs_cap
        return self._wake(retry.retry_jobs(self._database, self.batch_id, selection, size, deadline, cap_of))

    def repair(self, inputs: Iterable[Any] | Table, deadline: Deadline | None) -> str | None:
        """Replace failed jobs."""
        columns = RepairColumns.for_batch(self._database, self.batch_id, advice=RENAMING_ADVICE)
        source = open_items(inputs, None, columns, Limits.from_settings(self._settings))
        size, cap_of = self._settings.slice_size, self._settings.unanswered_jobs_cap
        return self._wake(repair_jobs(self._database, self.batch_id, source, size, deadline, cap_of))

    def delete(self, *, cancel: bool) -> None:
        """Delete it."""
        delete.delete(self._database, self.batch_id, cancel=cancel)

    def results(self, after: int, outcomes: Outcomes) -> Iterator[ResultRow]:
        """Return the results so far."""
        return pages.iter_results(self._database, self.batch_id, after, statuses=outcomes)

    def follow(self, after: int, outcomes: Outcomes) -> Iterator[ResultRow]:
        """Yield the results as they are stored."""
        for page in following.follow(self._database, self.batch_id, after, statuses=outcomes):
            yield from page

    def errors(self, code: str | None) -> Iterator[ResultRow]:
        """Return the failed jobs."""
        return pages.iter_failed(self._database, self.batch_id, code)

    def to_file(self, file_format: str, path: Path, after: int, outcomes: Outcomes) -> int:
        """Write a file, and return the number of results in it."""
        rows = pages.iter_by_position(self._database, self.batch_id, after, outcomes)
        return export.export_file(self._database, self.get(), rows, path, file_format)

    def to_sql(self, table: str, after: int, outcomes: Outcomes) -> int:
        """Write a table beside the results, and return the number of results in it."""
        return export.export_table(self._database, self.get(), table, after, outcomes)

    def iter_arrow(self, after: int, outcomes: Outcomes) -> "pyarrow.RecordBatchReader":
        """Return Arrow's record batches."""
        return export.open_arrow_reader(self._database, self.get(), after, outcomes)

    def embeddings(self) -> "numpy.ndarray[Any, Any]":
        """Return the vectors as a matrix."""
        return export.read_matrix(self._database, self.get())

    def _wake(self, result: RetryResult) -> str | None:
        """Wake workers for requeued jobs, and return what the user should know."""
        warning = submit.notify_workers(self._settings, result.pipeline, result.slices)
        return "; ".join(filter(None, (result.advice, warning))) or None
