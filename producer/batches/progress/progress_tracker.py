"""Progress of one batch over time: its counts, active workers, failures by code, and remaining time."""

from collections import Counter
from pathlib import Path

from sqlalchemy import text

from models.db import Database
from producer.batches import blockers, views
from producer.batches.blocker import Blocker
from producer.batches.progress.batch_progress import ActiveWorker as ActiveWorker
from producer.batches.progress.batch_progress import BatchProgress as BatchProgress
from producer.batches.progress.eta import EtaEstimator
from producer.batches.views import BatchView

SELECT_ACTIVE_WORKERS = """
SELECT s.worker_id, w.host, w.device, count(*) AS slices, sum(s.size) AS jobs
FROM slices s LEFT JOIN workers w ON w.id = s.worker_id
WHERE s.batch_id = :batch_id AND s.state = 'leased' AND s.lease_expires_at > {now}
GROUP BY s.worker_id, w.host, w.device ORDER BY w.host, w.device, s.worker_id
"""

SELECT_LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM results WHERE batch_id = :batch_id"

# Only failures since the last poll: counting all of them takes longer with every million results.
COUNT_FAILURES_BY_CODE = """
SELECT error_code, count(*) FROM results
WHERE batch_id = :batch_id AND seq > :after AND seq <= :last AND status = 'failed' GROUP BY error_code
"""


class ProgressTracker:
    """Polls one batch repeatedly, and keeps what makes the polls cheap and the estimate possible."""

    def __init__(
        self,
        database: Database,
        batch_id: str,
        lease_seconds: float = blockers.DEFAULT_LEASE_SECONDS,
        home: Path | None = None,
    ) -> None:
        self._database = database
        self._home = home
        self._lease_seconds = lease_seconds
        self._batch_id = batch_id
        self._eta_estimator = EtaEstimator()
        self._failures: Counter[str] = Counter()
        self._counted_until_seq = 0
        self._last_failed_count = 0

    def record(self, batch: BatchView) -> None:
        """Record the batch's progress; time counts only while somebody works on it."""
        self._eta_estimator.record(batch.working_seconds, batch.counts.ended)

    def poll(self) -> BatchProgress:
        """Read the batch and return its progress; raises NotFound."""
        batch = views.get_batch(self._database, self._batch_id)
        self.record(batch)
        return self.progress_for(batch)

    def progress_for(self, batch: BatchView) -> BatchProgress:
        """Return the progress of a batch that was just read."""
        ended = batch.status.has_ended
        workers = () if ended else list_active_workers(self._database, self._batch_id)
        eta = self._eta_estimator.estimate(batch.counts.unanswered) if batch.is_running else None
        waiting_for = () if workers else self._find_blockers(batch)
        return BatchProgress(batch, workers, self._update_failures(batch), eta, waiting_for)

    def _find_blockers(self, batch: BatchView) -> tuple[Blocker, ...]:
        return tuple(blockers.find_blockers(self._database, batch, self._lease_seconds, self._home))

    def _update_failures(self, batch: BatchView) -> tuple[tuple[str, int], ...]:
        failed = batch.counts.failed
        if failed < self._last_failed_count:  # a retry withdrew some
            self._failures, self._counted_until_seq = Counter(), 0
        if failed != self._last_failed_count:
            self._count_new_failures()
        self._last_failed_count = failed
        return tuple(self._failures.most_common())

    def _count_new_failures(self) -> None:
        with self._database.read() as connection:
            last_seq = connection.scalar(text(SELECT_LAST_SEQ), {"batch_id": self._batch_id})
            params = {"batch_id": self._batch_id, "after": self._counted_until_seq, "last": last_seq}
            for code, count in connection.execute(text(COUNT_FAILURES_BY_CODE), params):
                self._failures[code or "unknown"] += count
        self._counted_until_seq = last_seq


def list_active_workers(database: Database, batch_id: str) -> tuple[ActiveWorker, ...]:
    """Return the worker processes that hold slices of a batch."""
    query = text(SELECT_ACTIVE_WORKERS.format(now=database.sql.now))
    with database.read() as connection:
        rows = connection.execute(query, {"batch_id": batch_id})
        return tuple(ActiveWorker(row.worker_id, row.host, row.device, row.slices, int(row.jobs)) for row in rows)
