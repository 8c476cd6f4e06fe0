"""Standings: how a batch goes at one moment, who works on it, and what its failures are."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from models.db import Database
from producer.batches import blockers, views
from producer.batches.blockers import Blocker
from producer.batches.eta import Forecast, Forecaster
from producer.batches.views import BatchView

HOLDERS = """
SELECT s.worker_id, w.host, w.device, count(*) AS slices, sum(s.size) AS jobs
FROM slices s LEFT JOIN workers w ON w.id = s.worker_id
WHERE s.batch_id = :batch_id AND s.state = 'leased'
GROUP BY s.worker_id, w.host, w.device ORDER BY w.host, w.device, s.worker_id
"""

LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM results WHERE batch_id = :batch_id"

# Only what landed since the last look: to count them all would take longer with every million.
FAILURES = """
SELECT error_code, count(*) FROM results
WHERE batch_id = :batch_id AND seq > :after AND seq <= :last AND status = 'failed' GROUP BY error_code
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """A worker process that has slices of the batch; a slice's jobs may have ended in part."""

    worker_id: str
    host: str | None
    device: str | None
    slices: int
    jobs: int

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill watch --json` prints it."""
        return {
            "id": self.worker_id, "host": self.host, "device": self.device, "slices": self.slices, "jobs": self.jobs,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """A batch at one moment, with its holders, its failures by code (the most frequent first) and a forecast."""

    batch: BatchView
    holders: tuple[Holder, ...]
    failures: tuple[tuple[str, int], ...]
    forecast: Forecast | None
    waiting_for: tuple[Blocker, ...] = ()  # why nobody works on it

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill watch --json` prints it."""
        return {
            "object": "batch.standing",
            "batch": self.batch.as_dict(),
            "workers": [holder.as_dict() for holder in self.holders],
            "failures": dict(self.failures),
            "forecast": None if self.forecast is None else self.forecast.as_dict(),
            "waiting_for": [blocker.as_dict() for blocker in self.waiting_for],
        }


class Observer:
    """Looks at one batch again and again, and remembers what it needs to be quick and to forecast."""

    def __init__(self, database: Database, batch_id: str, lease_seconds: float = blockers.LEASE_SECONDS) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._batch_id = batch_id
        self._forecaster = Forecaster()
        self._failures: Counter[str] = Counter()
        self._after = 0  # the seq up to which failures are counted
        self._failed = 0

    def note(self, at: float, batch: BatchView) -> None:
        """The batch was seen like this, at a moment of the monotonic clock."""
        self._forecaster.note(at, batch.counts.ended)

    def look(self, at: float) -> Standing:
        """The batch as it stands now; raises NotFound."""
        batch = views.get(self._database, self._batch_id)
        self.note(at, batch)
        return self.standing(batch)

    def standing(self, batch: BatchView) -> Standing:
        """What else there is to know of a batch just seen."""
        ended = batch.status.ended
        holders = () if ended else self._holders()
        forecast = None if ended else self._forecaster.forecast(batch.counts.open)
        waiting_for = () if holders else tuple(blockers.of_batch(self._database, batch, self._lease_seconds))
        return Standing(batch, holders, self._failures_of(batch), forecast, waiting_for)

    def _holders(self) -> tuple[Holder, ...]:
        with self._database.read() as connection:
            rows = connection.execute(text(HOLDERS), {"batch_id": self._batch_id})
            return tuple(Holder(row.worker_id, row.host, row.device, row.slices, int(row.jobs)) for row in rows)

    def _failures_of(self, batch: BatchView) -> tuple[tuple[str, int], ...]:
        failed = batch.counts.failed
        if failed < self._failed:  # a replay took some back
            self._failures, self._after = Counter(), 0
        if failed != self._failed:
            self._count()
        self._failed = failed
        return tuple(self._failures.most_common())

    def _count(self) -> None:
        with self._database.read() as connection:
            last = connection.scalar(text(LAST_SEQ), {"batch_id": self._batch_id})
            named = {"batch_id": self._batch_id, "after": self._after, "last": last}
            for code, count in connection.execute(text(FAILURES), named):
                self._failures[code or "unknown"] += count
        self._after = last
