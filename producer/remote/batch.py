"""One batch behind a server."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import NotFound, Unreachable, UsageError
from producer.batch_access import Outcomes, UpdateView
from producer.batches import polling
from producer.batches.batch_view import BatchView
from producer.batches.blocker import Blocker
from producer.readers.frames.frame import Table
from producer.remote import exports, pages, progress
from producer.remote.documents import batch_view
from producer.remote.errors import AnswerLost
from producer.remote.http import ServerHttp, Upload
from producer.remote.retrying import REPEAT_UNSENT
from producer.remote.sending import inputs
from producer.results.result_row import ResultRow
from producer.submission.options import SubmitOptions
from producer.times import Deadline

if TYPE_CHECKING:
    import numpy
    import pyarrow

NDJSON = "application/x-ndjson"
GOES_ON = 202  # the server still works on what was asked
REPEAT_ACT_SECONDS = 30.0  # after which a request is sent again, because its server may have been killed
LOST_ACT_SECONDS = 3.0  # in which an act shows whose answer was lost
MAX_ACT_SECONDS = 600.0


class RemoteBatch:
    """A batch behind a server; `BatchHandle` describes the methods."""

    def __init__(self, http: ServerHttp, batch_id: str) -> None:
        self.batch_id = batch_id
        self._http = http
        self._path = f"/api/batches/{pages.quote_id(batch_id)}"

    def get(self) -> BatchView:
        """Return the batch as it is now."""
        return batch_view(self._http.get(self._path))

    def show_progress(self) -> AbstractContextManager[UpdateView]:
        """Show a bar or a display; raises NotFound before anything is shown."""
        from producer.live_view.show import show_progress

        self.get()
        return show_progress(progress.RemoteProgress(self._http, self._path))

    def find_blockers(self) -> list[Blocker]:
        """Return the reasons why nobody works on it."""
        return progress.find_blockers(self._http, self._path)

    def cancel(self) -> BatchView:
        """Cancel it, and wait until the server has closed all its jobs."""
        while True:
            status, document = self._http.request("POST", f"{self._path}/cancel")
            if status != GOES_ON:
                return batch_view(document)
            if (batch := self._poll(lambda batch: batch.status.has_ended, REPEAT_ACT_SECONDS)) is not None:
                return batch

    def retry(
        self, outcomes: Outcomes, codes: Sequence[str], positions: Sequence[int], deadline: Deadline | None
    ) -> str | None:
        """Run jobs again."""
        body = {
            "status": [outcome.value for outcome in outcomes],
            "codes": list(codes),
            "positions": list(positions),
            "deadline": deadline and deadline.as_text(),
        }
        return self._requeue(lambda: self._post("retry", json=body))

    def repair(self, inputs_: Iterable[Any] | Table, deadline: Deadline | None) -> str | None:
        """Replace failed jobs."""
        records = inputs.InputRecords(inputs_, None, SubmitOptions(), lambda: None)
        params = {"deadline": deadline and deadline.as_text()}
        with inputs.spool() as file, pages.restate_rows(records.name, records.restate):
            inputs.write_lines(file, records)
            return self._requeue(lambda: self._post("repair", params=params, upload=Upload(file, NDJSON)))

    def delete(self, *, cancel: bool) -> None:
        """Delete it, and wait until the server has deleted all its rows."""
        params = {"cancel": "true"} if cancel else None
        status, _ = self._http.request("DELETE", self._path, params)
        with suppress(NotFound):  # it is gone
            while status == GOES_ON:
                self._poll(lambda _: False, REPEAT_ACT_SECONDS)
                status, _ = self._http.request("DELETE", self._path, params)

    def results(self, after: int, outcomes: Outcomes) -> Iterator[ResultRow]:
        """Return the results so far."""
        return pages.iter_results(self._http, self._path, self.get, after, outcomes)

    def follow(self, after: int, outcomes: Outcomes) -> Iterator[ResultRow]:
        """Yield the results as they are stored."""
        return pages.follow(self._http, self._path, self.get, after, outcomes)

    def errors(self, code: str | None) -> Iterator[ResultRow]:
        """Return the failed jobs."""
        return pages.iter_errors(self._http, self._path, self.get, code)

    def to_file(self, file_format: str, path: Path, after: int, outcomes: Outcomes) -> int:
        """Write a file, and return the number of results in it."""
        return exports.export_file(self._download(after, outcomes), file_format, path)

    def to_sql(self, table: str, after: int, outcomes: Outcomes) -> int:
        """Raise UsageError, because a server writes no tables for its clients."""
        raise UsageError(f"a table is written where the database is: batchmill results {self.batch_id} --to-table NAME")

    def iter_arrow(self, after: int, outcomes: Outcomes) -> "pyarrow.RecordBatchReader":
        """Return Arrow's record batches, from a temporary file that is whole."""
        return exports.open_arrow_reader(self._download(after, outcomes))

    def embeddings(self) -> "numpy.ndarray[Any, Any]":
        """Return the vectors as a matrix."""
        batch = self.get()
        if not batch.status.has_ended:
            raise UsageError(f"{batch.id} is {batch.status}, so vectors may be missing; wait for its end first: wait()")
        return exports.read_matrix(self._download(0, ()))

    def _download(self, after: int, outcomes: Outcomes) -> exports.Download:
        return exports.Download(self._http, self._path, after, outcomes)

    def _post(self, act: str, **content: Any) -> tuple[int, Any]:
        return self._http.request("POST", f"{self._path}/{act}", policy=REPEAT_UNSENT, **content)

    def _requeue(self, send: Callable[[], tuple[int, Any]]) -> str | None:
        """Return what the user should know after an act on failed jobs, once it has reopened the batch."""
        before = _progress(self.get())
        try:
            status, document = send()
        except AnswerLost:
            # Done or not? A second request would be refused, or run jobs again that have ended meanwhile.
            if self._poll(lambda batch: _progress(batch) != before, LOST_ACT_SECONDS) is None:
                raise
            return None
        if status == GOES_ON and self._poll(lambda batch: _progress(batch) != before, MAX_ACT_SECONDS) is None:
            raise Unreachable(
                f"the server has not reopened {self.batch_id} within {MAX_ACT_SECONDS:g} seconds; try again"
            )
        return "; ".join(filter(None, (document.get("advice"), document.get("warning")))) or None

    def _poll(self, is_done: Callable[[BatchView], bool], max_seconds: float) -> BatchView | None:
        """Return the batch once a condition holds; None if that takes longer."""
        waited = 0.0
        for pause in polling.poll_intervals():
            batch = self.get()
            if is_done(batch):
                return batch
            if waited >= max_seconds:
                break
            self._http.pause(pause)
            waited += pause
        return None


def _progress(batch: BatchView) -> tuple[object, ...]:
    """What changes when jobs run again, also if they have ended in the same way meanwhile."""
    return batch.status, batch.counts, batch.timestamps
