"""Progress of one batch at one moment, as bars and notebooks show it. Nothing here reads SQL."""

from dataclasses import dataclass
from typing import Any, Protocol

from producer.batches.batch_view import BatchView
from producer.batches.blocker import Blocker
from producer.batches.progress.eta import Eta


@dataclass(frozen=True, slots=True)
class ActiveWorker:
    """A worker process that holds slices of the batch; some of their jobs may have ended already."""

    worker_id: str
    host: str | None
    device: str | None
    slices: int
    jobs: int

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `batchmill watch --json` prints."""
        return {
            "id": self.worker_id,
            "host": self.host,
            "device": self.device,
            "slices": self.slices,
            "jobs": self.jobs,
        }


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """A batch at one moment, with its active workers, its failures by code (most frequent first) and its ETA."""

    batch: BatchView
    active_workers: tuple[ActiveWorker, ...]
    failures: tuple[tuple[str, int], ...]
    eta: Eta | None
    waiting_for: tuple[Blocker, ...] = ()  # why no worker processes it

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `batchmill watch --json` prints."""
        return {
            "object": "batch.progress",
            "batch": self.batch.as_dict(),
            "workers": [worker.as_dict() for worker in self.active_workers],
            "failures": dict(self.failures),
            "eta": None if self.eta is None else self.eta.as_dict(),
            "waiting_for": [blocker.as_dict() for blocker in self.waiting_for],
        }


class Tracker(Protocol):
    """Follows the progress of one batch, whose polls somebody else makes."""

    def record(self, batch: BatchView) -> None:
        """Record the batch's progress; time counts only while somebody works on it."""

    def progress_for(self, batch: BatchView) -> BatchProgress:
        """Return the progress of a batch that was just read."""
