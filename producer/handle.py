"""The handle of one batch in a Python program."""

from collections.abc import Iterator
from typing import Any, Self

from models.db import Database
from producer.batches import blockers, cancel, delete, polling, views
from producer.batches.blockers import Blocker
from producer.batches.views import BatchView, JobCounts
from producer.results import pages
from producer.results.pages import ResultRow


class BatchHandle:
    """One batch, as it was when last read; `refresh` and `wait` read it again.

    warning: why workers may start late, or how an existing batch ended; None = nothing to warn of.
    already_submitted: whether the batch existed under its idempotency key.
    """

    def __init__(
        self,
        database: Database,
        batch_id: str,
        *,
        view: BatchView | None = None,
        warning: str | None = None,
        already_submitted: bool = False,
    ) -> None:
        self.id = batch_id
        self.warning = warning
        self.already_submitted = already_submitted
        self._database = database
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
        """One of validating, in_progress, completed, failed, expired, cancelling and cancelled."""
        return self.view.status.value

    @property
    def request_counts(self) -> JobCounts:
        """The number of jobs by outcome: total, completed (they succeeded), failed, cancelled, expired, open."""
        return self.view.counts

    def as_dict(self) -> dict[str, Any]:
        """The public object, as `batchmill show --json` prints it."""
        return self.view.as_dict()

    def refresh(self) -> Self:
        """Read the batch again; raises NotFound if it was deleted."""
        self._view = views.get_batch(self._database, self.id)
        return self

    def wait(self, timeout: float | None = None) -> Self:
        """Return when the batch has ended; raises WaitTimeout after `timeout` seconds, while the batch goes on."""
        self._view = polling.wait_until_ended(self._database, self.id, timeout)
        return self

    def find_blockers(self) -> list[Blocker]:
        """The reasons why no worker works on the batch now; empty while one does."""
        return blockers.find_blockers(self._database, self.refresh().view)

    def cancel(self) -> Self:
        """Cancel the batch, and keep the results that it has; raises UsageError if it has ended already."""
        self._view = cancel.cancel(self._database, self.id)
        return self

    def delete(self, *, cancel: bool = False) -> None:
        """Delete the batch with its jobs and results; raises UsageError if it is open and not to be cancelled."""
        delete.delete(self._database, self.id, cancel=cancel)

    def results(self, after: int = 0) -> Iterator[ResultRow]:
        """The results so far, in the order in which they were stored, from a cursor on.

        after: the `seq` of the last row that was read; 0 = from the start.

        Call `wait` first to get all results, or call this again with the last row's `seq`.
        """
        return pages.iter_results(self._database, self.id, after)

    def follow(self, after: int = 0) -> Iterator[ResultRow]:
        """The same, and later results as they are stored; stops when the batch has ended."""
        for page in pages.follow(self._database, self.id, after):
            yield from page

    def errors(self, code: str | None = None) -> Iterator[ResultRow]:
        """The failed jobs, of one error code or of all, in the order of the inputs."""
        return pages.iter_failed(self._database, self.id, code)
