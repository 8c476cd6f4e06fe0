"""What a client needs of the side that it speaks to: a database, or a server."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from producer.batch_access import BatchAccess
from producer.batches.batch_view import BatchView
from producer.readers.input_source import PythonSource
from producer.submission.options import SubmitOptions


class Submitted(NamedTuple):
    """A batch that was submitted.

    warning: what the reader had to assume, why workers may start late, or how an existing batch ended; None = nothing
    already_submitted: whether it existed under its idempotency key
    """

    access: BatchAccess
    warning: str | None
    already_submitted: bool


@dataclass(frozen=True, slots=True)
class BatchQuery:
    """The batches to list, as `BatchFilter` describes them; None = any, and so is no status."""

    status: tuple[str, ...] = ()
    pipeline: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: str | None = None
    tenant: str | None = None
    search: str | None = None


class Connection(Protocol):
    """Submits and finds batches; `Client` describes the methods of the same names."""

    def submit(self, pipeline: str, source: PythonSource, options: SubmitOptions) -> Submitted: ...

    def batch(self, batch_id: str) -> BatchAccess:
        """Return the access to a batch, which may not exist."""

    def list_batches(self, limit: int | None, query: BatchQuery) -> Sequence[tuple[BatchAccess, BatchView]]: ...

    def close(self) -> None: ...
