"""One batch behind a server."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import NotFound, UsageError
from producer.batch_access import Outcomes, UpdateView
from producer.batches import polling
from producer.batches.batch_view import BatchView
from producer.batches.blocker import Blocker
from producer.readers.frames.frame import Table
from producer.remote import exports, inputs, pages, progress
from producer.remote.documents import batch_view
from producer.remote.errors import AnswerLost
from producer.remote.http import ServerHttp, Upload
from producer.remote.retrying import REPEAT_UNSENT
from producer.results.result_row import ResultRow
from producer.submission.options import SubmitOptions
from producer.times import Deadline

if TYPE_CHECKING:
    import numpy
    import pyarrow

NDJSON = "application/x-ndjson"
GOES_ON = 202  # the server still works on what was asked


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
        """Cancel it; a large one takes several requests."""
        return batch_view(self._finish("POST", f"{self._path}/cancel"))

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
        """Delete it; a large one takes several requests."""
        self._finish("DELETE", self._path, {"cancel": "true"} if cancel else None)

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
        """Return what the user should know after an act on failed jobs."""
        try:
            _, document = send()
        except AnswerLost:
            # Done or not? A second request would be refused if the first one has reopened the batch.
            if self.get().status.has_ended:
                raise
            return None
        return "; ".join(filter(None, (document.get("advice"), document.get("warning")))) or None

    def _finish(self, method: str, path: str, params: dict[str, Any] | None = None) -> Any:
        """Repeat a request that may be repeated until the server has done all of it."""
        is_repeat = False
        for pause in polling.poll_intervals():
            try:
                status, document = self._http.request(method, path, params)
            except NotFound:
                if method == "DELETE" and is_repeat:
                    return None
                raise
            if status != GOES_ON:
                return document
            is_repeat = True
            self._http.pause(pause)
        raise AssertionError("poll_intervals() never ends")
