"""Standings: how a batch goes at one moment, who works on it, and what its failures are."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from models.db import Database
from producer.batches import blockers, views
from producer.batches.blockers import Blocker
from producer.batches.eta import Eta, EtaEstimator
from producer.batches.views import BatchView

SELECT_ACTIVE_WORKERS = """
SELECT s.worker_id, w.host, w.device, count(*) AS slices, sum(s.size) AS jobs
FROM slices s LEFT JOIN workers w ON w.id = s.worker_id
WHERE s.batch_id = :batch_id AND s.state = 'leased'
GROUP BY s.worker_id, w.host, w.device ORDER BY w.host, w.device, s.worker_id
"""

SELECT_LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM results WHERE batch_id = :batch_id"

# Only what landed since the last look: to count them all would take longer with every million.
COUNT_FAILURES_BY_CODE = """
SELECT error_code, count(*) FROM results
WHERE batch_id = :batch_id AND seq > :after AND seq <= :last AND status = 'failed' GROUP BY error_code
"""


@dataclass(frozen=True, slots=True)
class ActiveWorker:
    """A worker process that has slices of the batch; a slice's jobs may have ended in part."""

    worker_id: str
    host: str | None
    device: str | None
    slices: int
    jobs: int

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill watch --json` prints it."""
        return {
            "id": self.worker_id,
            "host": self.host,
            "device": self.device,
            "slices": self.slices,
            "jobs": self.jobs,
        }


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """A batch at one moment, with its holders, its failures by code (the most frequent first) and a forecast."""

    batch: BatchView
    active_workers: tuple[ActiveWorker, ...]
    failures: tuple[tuple[str, int], ...]
    eta: Eta | None
    waiting_for: tuple[Blocker, ...] = ()  # why nobody works on it

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill watch --json` prints it."""
        return {
            "object": "batch.standing",
            "batch": self.batch.as_dict(),
            "workers": [holder.as_dict() for holder in self.active_workers],
            "failures": dict(self.failures),
            "forecast": None if self.eta is None else self.eta.as_dict(),
            "waiting_for": [blocker.as_dict() for blocker in self.waiting_for],
        }


class ProgressTracker:
    """Looks at one batch again and again, and remembers what it needs to be quick and to forecast."""

    def __init__(
        self, database: Database, batch_id: str, lease_seconds: float = blockers.DEFAULT_LEASE_SECONDS
    ) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._batch_id = batch_id
        self._eta_estimator = EtaEstimator()
        self._failures: Counter[str] = Counter()
        self._counted_until_seq = 0  # the seq up to which failures are counted
        self._last_failed_count = 0

    def record(self, now: float, batch: BatchView) -> None:
        """The batch was seen like this, at a moment of the monotonic clock."""
        self._eta_estimator.record(now, batch.counts.ended)

    def poll(self, now: float) -> BatchProgress:
        """The batch as it stands now; raises NotFound."""
        batch = views.get_batch(self._database, self._batch_id)
        self.record(now, batch)
        return self.progress_for(batch)

    def progress_for(self, batch: BatchView) -> BatchProgress:
        """What else there is to know of a batch just seen."""
        ended = batch.status.has_ended
        holders = () if ended else self._active_workers()
        forecast = None if ended else self._eta_estimator.estimate(batch.counts.unanswered)
        waiting_for = () if holders else tuple(blockers.find_blockers(self._database, batch, self._lease_seconds))
        return BatchProgress(batch, holders, self._update_failures(batch), forecast, waiting_for)

    def _active_workers(self) -> tuple[ActiveWorker, ...]:
        with self._database.read() as connection:
            rows = connection.execute(text(SELECT_ACTIVE_WORKERS), {"batch_id": self._batch_id})
            return tuple(ActiveWorker(row.worker_id, row.host, row.device, row.slices, int(row.jobs)) for row in rows)

    def _update_failures(self, batch: BatchView) -> tuple[tuple[str, int], ...]:
        failed = batch.counts.failed
        if failed < self._last_failed_count:  # a replay took some back
            self._failures, self._counted_until_seq = Counter(), 0
        if failed != self._last_failed_count:
            self._count_new_failures()
        self._last_failed_count = failed
        return tuple(self._failures.most_common())

    def _count_new_failures(self) -> None:
        with self._database.read() as connection:
            last = connection.scalar(text(SELECT_LAST_SEQ), {"batch_id": self._batch_id})
            named = {"batch_id": self._batch_id, "after": self._counted_until_seq, "last": last}
            for code, count in connection.execute(text(COUNT_FAILURES_BY_CODE), named):
                self._failures[code or "unknown"] += count
        self._counted_until_seq = last
