"""The progress of a batch behind a server, for bars and notebooks."""

from producer.batches.batch_view import BatchView
from producer.batches.blocker import Blocker
from producer.batches.progress.batch_progress import BatchProgress
from producer.batches.progress.eta import EtaEstimator
from producer.remote.http import ServerHttp


class RemoteProgress:
    """Follows one batch; workers are not listed, which only the operator's keys may see."""

    def __init__(self, http: ServerHttp, path: str) -> None:
        self._http = http
        self._path = path
        self._eta_estimator = EtaEstimator()
        self._failures: tuple[tuple[str, int], ...] = ()
        self._counted_failed = 0

    def record(self, batch: BatchView) -> None:
        """Record the batch's progress; time counts only while somebody works on it."""
        self._eta_estimator.record(batch.working_seconds, batch.counts.ended)

    def progress_for(self, batch: BatchView) -> BatchProgress:
        """Return the progress of a batch that was just read."""
        eta = self._eta_estimator.estimate(batch.counts.unanswered) if batch.is_running else None
        is_waiting = not batch.is_running and not batch.status.has_ended
        waiting_for = find_blockers(self._http, self._path) if is_waiting else []
        return BatchProgress(batch, (), self._update_failures(batch), eta, tuple(waiting_for))

    def _update_failures(self, batch: BatchView) -> tuple[tuple[str, int], ...]:
        if batch.counts.failed != self._counted_failed:
            self._counted_failed = batch.counts.failed
            counts = self._http.get(f"{self._path}/errors/counts")["data"]
            self._failures = tuple((count["code"], count["jobs"]) for count in counts)
        return self._failures


def find_blockers(http: ServerHttp, path: str) -> list[Blocker]:
    """Return the reasons why no worker works on a batch."""
    return [Blocker(reason["code"], reason["message"]) for reason in http.get(f"{path}/blockers")["data"]]
