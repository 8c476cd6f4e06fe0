"""A batch in the hands of a Python program."""

from collections.abc import Iterator
from typing import Any, Self

from models.db import Database
from producer.batches import blockers, cancel, delete, polling, views
from producer.batches.blockers import Blocker
from producer.batches.views import BatchView, JobCounts
from producer.results import pages
from producer.results.pages import ResultRow


class BatchHandle:
    """One batch; its fields are as of the last look, which `refresh` and `wait` renew."""

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
        self.warning = warning  # why workers hear of it late, or how a batch that was known has ended; else None
        self.already_submitted = already_submitted  # whether it was there already, under its idempotency key
        self._database = database
        self._view = view

    def __repr__(self) -> str:
        return f"<batch {self.id} {self._view.status if self._view else ''}>"

    @property
    def view(self) -> BatchView:
        """Everything known of the batch."""
        if self._view is None:
            self.refresh()
        assert self._view is not None
        return self._view

    @property
    def status(self) -> str:
        """validating, in_progress, completed, failed, expired, cancelling or cancelled."""
        return self.view.status.value

    @property
    def request_counts(self) -> JobCounts:
        """How the jobs stand: total, completed (they succeeded), failed, cancelled, expired, open."""
        return self.view.counts

    def as_dict(self) -> dict[str, Any]:
        """The public object, as `batchmill show --json` prints it."""
        return self.view.as_dict()

    def refresh(self) -> Self:
        """Look again; raises NotFound when the batch is gone."""
        self._view = views.get_batch(self._database, self.id)
        return self

    def wait(self, timeout: float | None = None) -> Self:
        """Return when the batch has ended; raises WaitRanOut after `timeout` seconds, and the batch goes on."""
        self._view = polling.wait_until_ended(self._database, self.id, timeout)
        return self

    def find_blockers(self) -> list[Blocker]:
        """Why nobody works on the batch at this moment: a code and a sentence each; empty while somebody does."""
        return blockers.find_blockers(self._database, self.refresh().view)

    def cancel(self) -> Self:
        """End the batch now: what is answered stays. Raises UsageError where it has ended already."""
        self._view = cancel.cancel(self._database, self.id)
        return self

    def delete(self, *, cancel: bool = False) -> None:
        """Delete the batch with its jobs and results; raises UsageError where it is open, unless `cancel` ends it."""
        delete.delete(self._database, self.id, cancel=cancel)

    def results(self, after: int = 0) -> Iterator[ResultRow]:
        """The results that landed after `after` (a row's `seq`), in that order, page by page.

        Stops at what has landed so far: wait first to have all, or come back with the last row's `seq`.
        """
        return pages.iter_results(self._database, self.id, after)

    def follow(self, after: int = 0) -> Iterator[ResultRow]:
        """The same, and what lands from now on; stops when the batch has ended and all of it was given."""
        for page in pages.follow(self._database, self.id, after):
            yield from page

    def errors(self, code: str | None = None) -> Iterator[ResultRow]:
        """The jobs that failed, of one error code or of all, in the order of the inputs."""
        return pages.iter_failed(self._database, self.id, code)
