"""What a handle needs of its batch, wherever that is: in a database, or behind a server."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from models.states import JobOutcome
from producer.batches.batch_view import BatchView
from producer.batches.blocker import Blocker
from producer.readers.frames.frame import Table
from producer.results.result_row import ResultRow
from producer.times import Deadline

if TYPE_CHECKING:
    import numpy
    import pyarrow

UpdateView = Callable[[BatchView], object]
Outcomes = Sequence[JobOutcome]  # empty = any


class BatchAccess(Protocol):
    """One batch in a database or behind a server; `BatchHandle` describes the methods of the same names."""

    @property
    def batch_id(self) -> str: ...

    def get(self) -> BatchView: ...

    def show_progress(self) -> AbstractContextManager[UpdateView]: ...

    def find_blockers(self) -> list[Blocker]: ...

    def cancel(self) -> BatchView: ...

    def retry(
        self, outcomes: Outcomes, codes: Sequence[str], positions: Sequence[int], deadline: Deadline | None
    ) -> str | None:
        """Return what the user should know."""

    def repair(self, inputs: Iterable[Any] | Table, deadline: Deadline | None) -> str | None:
        """Return what the user should know."""

    def delete(self, *, cancel: bool) -> None: ...

    def results(self, after: int, outcomes: Outcomes) -> Iterator[ResultRow]: ...

    def follow(self, after: int, outcomes: Outcomes) -> Iterator[ResultRow]: ...

    def errors(self, code: str | None) -> Iterator[ResultRow]: ...

    def to_file(self, file_format: str, path: Path, after: int, outcomes: Outcomes) -> int: ...

    def to_sql(self, table: str, after: int, outcomes: Outcomes) -> int: ...

    def iter_arrow(self, after: int, outcomes: Outcomes) -> "pyarrow.RecordBatchReader": ...

    def embeddings(self) -> "numpy.ndarray[Any, Any]": ...
