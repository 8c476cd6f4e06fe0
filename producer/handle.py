"""The handle of one batch in a Python program."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from models.errors import UsageError
from models.states import BatchStatus, JobOutcome
from producer.batch_access import BatchAccess
from producer.batches import polling
from producer.batches.batch_view import BatchView, GuardCounts, JobCounts
from producer.batches.blocker import Blocker
from producer.readers.frames.frame import Table
from producer.results.arguments import check_cursor, parse_statuses, require_packages
from producer.results.result_row import ResultRow
from producer.times import Deadline

if TYPE_CHECKING:
    import numpy
    import pandas
    import polars
    import pyarrow

Status = str | Iterable[str] | None  # of results: succeeded, failed, cancelled, expired, or several; None = all


class BatchHandle:
    """One batch, as it was when last read; `refresh` and `wait` read it again.

    warning: what the reader had to assume, why workers may start late, or how an existing batch ended; None = nothing
        to warn of.
    already_submitted: whether the batch existed under its idempotency key.
    """

    def __init__(
        self,
        access: BatchAccess,
        *,
        view: BatchView | None = None,
        warning: str | None = None,
        already_submitted: bool = False,
    ) -> None:
        self.id = access.batch_id
        self.warning = warning
        self.already_submitted = already_submitted
        self._access = access
        self._view = view

    def __repr__(self) -> str:
        return f"<batch {self.id} {self._view.status if self._view else ''}>"

    @property
    def view(self) -> BatchView:
        """The whole batch."""
        if self._view is None:
            self.refresh()
        assert self._view is not None
        return self._view

    @property
    def status(self) -> str:
        """One of validating, in_progress, completed, failed, expired, cancelling, cancelled and deleting."""
        return self.view.status.value

    @property
    def has_ended(self) -> bool:
        """Whether no more results will be added, unless the batch is retried."""
        return self.view.status.has_ended

    @property
    def request_counts(self) -> JobCounts:
        """The number of jobs by outcome: total, succeeded, failed, cancelled, expired, unanswered."""
        return self.view.counts

    @property
    def guards(self) -> tuple[GuardCounts, ...]:
        """The batch's guards with the rows that each passed, flagged, redacted and blocked; empty without guards."""
        return self.view.guards

    def as_dict(self) -> dict[str, Any]:
        """Return the public object, as `batchmill show --json` prints it."""
        return self.view.as_dict()

    def refresh(self) -> Self:
        """Read the batch again; raises NotFound if it was deleted."""
        self._view = self._access.get()
        return self

    def wait(
        self,
        timeout: float | None = None,
        on_progress: Callable[[Self], object] | None = None,
        *,
        progress: bool = False,
    ) -> Self:
        """Return when the batch has ended.

        timeout: seconds; None = no limit. Afterwards WaitTimeout is raised, and the batch goes on.
        on_progress: called with this handle at first, and whenever its status or counts have changed.
        progress: show a bar in a notebook, or on a terminal; elsewhere print a last line on stderr.
        """
        reported: tuple[BatchStatus, JobCounts] | None = None

        def update(view: BatchView) -> None:
            nonlocal reported
            self._view = view
            show(view)
            if on_progress is not None and reported != (view.status, view.counts):
                reported = view.status, view.counts
                on_progress(self)

        with self._access.show_progress() if progress else nullcontext(lambda _: None) as show:
            polling.wait_until_ended(self._access.get, timeout, update)
        return self

    def find_blockers(self) -> list[Blocker]:
        """Return the reasons why no worker works on the batch now; empty while one does."""
        return self._access.find_blockers()

    def cancel(self) -> Self:
        """Cancel the batch, and keep the results that it has; a batch that is cancelled already stays so.

        Raises UsageError if the batch has ended in another way.
        """
        self._view = self._access.cancel()
        return self

    def retry(
        self,
        *,
        status: str | Iterable[str] = "failed",
        codes: str | Iterable[str] = (),
        positions: Iterable[int] = (),
        deadline: str | None = None,
    ) -> Self:
        """Run jobs of an ended batch again, in the same places; the new results replace the old ones.

        status: the outcomes to try again: failed, cancelled, expired, or several of them.
        codes: only failures with this error code, or one of these; empty = any.
        positions: only jobs at these places among the inputs, at most 10,000; empty = any.
        deadline: a new deadline such as "6h"; None keeps the old one, unless it has passed.

        Raises UsageError if the batch has not ended, or has no such jobs. Then `warning` says why workers may start
        late, and which jobs a retry can't help.
        """
        outcomes = parse_statuses(status)
        if not outcomes or JobOutcome.SUCCEEDED in outcomes:
            raise UsageError("a retry takes jobs with the status failed, cancelled or expired")
        new_deadline = None if deadline is None else Deadline.parse_future(deadline)
        code_names = (codes,) if isinstance(codes, str) else tuple(codes)
        self.warning = self._access.retry(outcomes, code_names, tuple(positions), new_deadline)
        return self.refresh()

    def repair(self, inputs: Iterable[Mapping[str, Any]] | Table, *, deadline: str | None = None) -> Self:
        """Put corrected inputs in the places of failed jobs, and run them.

        inputs: objects with a `position` or the job's id, and the task's fields; also `as_dict()` of rows of `errors`,
            or a table of pandas, polars or Arrow. Passthrough columns are kept unless they are given.
        deadline: a new deadline such as "6h"; None keeps the old one, unless it has passed.

        Raises InvalidRows naming the items that can't be jobs or name no failed job, and UsageError if the batch has
        not ended; then nothing has changed.
        """
        new_deadline = None if deadline is None else Deadline.parse_future(deadline)
        self.warning = self._access.repair(inputs, new_deadline)
        return self.refresh()

    def delete(self, *, cancel: bool = False) -> None:
        """Delete the batch with its jobs and results; raises UsageError if it has not ended, unless `cancel`."""
        self._access.delete(cancel=cancel)

    def results(self, after: int = 0, *, status: Status = None) -> Iterator[ResultRow]:
        """Return the results so far, in the order in which they were stored, from a cursor on.

        after: the `seq` of the last row that was read; 0 = from the start.
        status: only results with this status, or one of these; None = all.

        Call `wait` first to get all results, or call this again with the last row's `seq`.
        """
        return self._access.results(check_cursor(after), parse_statuses(status))

    def follow(self, after: int = 0, *, status: Status = None) -> Iterator[ResultRow]:
        """Yield the same, and later results as they are stored; stops when the batch has ended."""
        return self._access.follow(check_cursor(after), parse_statuses(status))

    def errors(self, code: str | None = None) -> Iterator[ResultRow]:
        """Return the failed jobs, of one error code or of all, in the order of the inputs."""
        return self._access.errors(code)

    def to_jsonl(self, path: str | PathLike[str], *, after: int = 0, status: Status = None) -> int:
        """Write the results so far as JSON lines, in the order of the inputs, and return their number.

        path: the file; it appears whole or not at all.
        after: only results stored after this `seq`; 0 = all.
        status: only results with this status, or one of these; None = all.

        Raises UsageError if the file can't be written.
        """
        return self._to_file("jsonl", path, after, status)

    def to_csv(self, path: str | PathLike[str], *, after: int = 0, status: Status = None) -> int:
        """Write the results as CSV with typed columns, as `to_jsonl` does."""
        return self._to_file("csv", path, after, status)

    def to_parquet(self, path: str | PathLike[str], *, after: int = 0, status: Status = None) -> int:
        """Write the results as Parquet with typed columns, as `to_jsonl` does; needs the extra `parquet`."""
        return self._to_file("parquet", path, after, status)

    def to_npy(self, path: str | PathLike[str]) -> int:
        """Write the vectors as one matrix of float32 for NumPy, and return their number.

        path: the file; it appears whole or not at all.

        Row i is the job at position i, and NaN if that has no vector. Raises UsageError if the outputs are no vectors,
        or the file can't be written.
        """
        return self._to_file("npy", path, 0, None)

    def to_sql(self, table: str, *, after: int = 0, status: Status = None) -> int:
        """Write the results into a typed table of yours in the same database, and return their number.

        table: `table` or `schema.table`; created if missing, once there are results. Rows of this batch are replaced,
            others stay.
        after: only results stored after this `seq`; 0 = all.
        status: only results with this status, or one of these; None = all.

        Raises UsageError if the table has other columns, or its schema does not exist.
        """
        return self._access.to_sql(table, check_cursor(after), parse_statuses(status))

    def iter_arrow(self, *, after: int = 0, status: Status = None) -> "pyarrow.RecordBatchReader":
        """Return the results so far as Arrow record batches, in the order of the inputs and in bounded memory.

        after: only results stored after this `seq`; 0 = all.
        status: only results with this status, or one of these; None = all.

        The columns are those of `to_parquet`. The reader has a `schema` and may be given to other packages. Raises
        UsageError if pyarrow is missing, or, while it is read, for an output that does not fit into the columns.
        """
        outcomes = parse_statuses(status)
        require_packages("pyarrow")
        return self._access.iter_arrow(check_cursor(after), outcomes)

    def to_arrow(self, *, after: int = 0, status: Status = None) -> "pyarrow.Table":
        """Return the results so far as an Arrow table, as `iter_arrow` does."""
        return self.iter_arrow(after=after, status=status).read_all()

    def to_pandas(self, *, after: int = 0, status: Status = None) -> "pandas.DataFrame":
        """Return the results so far as a pandas DataFrame, as `iter_arrow` does; a vector is an array of NumPy."""
        require_packages("pandas", "pyarrow")
        return self.to_arrow(after=after, status=status).to_pandas()

    def to_polars(self, *, after: int = 0, status: Status = None) -> "polars.DataFrame":
        """Return the results so far as a polars DataFrame, as `iter_arrow` does; a vector is an Array."""
        require_packages("polars", "pyarrow")
        import polars

        frame = polars.from_arrow(self.to_arrow(after=after, status=status))
        assert isinstance(frame, polars.DataFrame)
        return frame

    def embeddings(self) -> "numpy.ndarray[Any, Any]":
        """Return the vectors of an ended batch as one float32 matrix, whose row i is the job at position i.

        Rows of jobs without a vector are NaN. The matrix is filled while reading, a page at a time.

        Raises UsageError if the batch has not ended or has no vectors, or NumPy is missing.
        """
        require_packages("numpy")
        return self._access.embeddings()

    def _to_file(self, file_format: str, path: str | PathLike[str], after: int, status: Status) -> int:
        return self._access.to_file(file_format, Path(path), check_cursor(after), parse_statuses(status))
