"""What this process holds right now: its leases, and how many jobs of each are still open."""

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from worker.leasing.quarantine import must_run_alone


@dataclass(frozen=True, slots=True)
class Lease:
    """A slice that this process holds; `token` is the fence that every closing write must name."""

    slice_id: int
    batch_id: str
    start_position: int
    size: int
    token: int
    attempts: int
    parameters: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    crashes: int = 0
    lost_leases: int = 0
    retries: int = 0
    max_attempts: int | None = None  # of its batch; None leaves it to the setting

    @property
    def is_quarantined(self) -> bool:
        """True when workers died over it: it must be run alone, so that another death names it."""
        return must_run_alone(self.crashes, self.lost_leases)


@dataclass(frozen=True, slots=True)
class Job:
    """One input of a held slice that has no result yet; `size` is the input's, in bytes of JSON."""

    lease: Lease
    position: int
    input: dict[str, Any]
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims, and with which model: a batch once begun takes no other."""

    worker_id: str
    pipeline: str
    task: str
    model: str
    revision: str
    lease_seconds: float
    can_begin_batches: bool = (
        True  # whether it may begin batches; not with a revision that is older than the catalogue's
    )


@dataclass(frozen=True, slots=True)
class JobSize:
    """How large the input of a job without result is, in bytes of JSON."""

    lease: Lease
    position: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SliceRange:
    """A part of a held slice: its positions from `first` on, before `past`."""

    lease: Lease
    start_position: int
    end_position: int


class HeldLeases:
    """Thread-safe: the claim thread adds, the write thread settles, the heartbeat renews and finds losses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: dict[int, Lease] = {}
        self._unanswered: Counter[int] = Counter()

    def add(self, leases: Iterable[Lease], jobs: Iterable[Job | JobSize]) -> None:
        """Begin to hold these slices, of which these jobs are open."""
        with self._lock:
            for lease in leases:
                self._leases[lease.slice_id] = lease
                self._unanswered[lease.slice_id] = 0
            self._unanswered.update(job.lease.slice_id for job in jobs)

    def leases(self) -> list[Lease]:
        """All that is held."""
        with self._lock:
            return list(self._leases.values())

    def is_held(self, lease: Lease) -> bool:
        """False once the lease was lost, closed or dropped."""
        with self._lock:
            return self._leases.get(lease.slice_id) == lease

    def unanswered_jobs(self, lease: Lease) -> int:
        """How many jobs of this slice have no result yet; none once it is held no longer."""
        with self._lock:
            return self._unanswered[lease.slice_id] if self._leases.get(lease.slice_id) == lease else 0

    def count_results(self, lease: Lease, result_count: int) -> None:
        """Count committed results; a slice without open jobs is held no longer."""
        with self._lock:
            if self._leases.get(lease.slice_id) == lease:
                self._unanswered[lease.slice_id] -= result_count
                if self._unanswered[lease.slice_id] <= 0:
                    self._remove(lease)

    def discard(self, leases: Iterable[Lease]) -> None:
        """These are somebody else's now: whatever is still computed for them is thrown away.

        That somebody may be this process under a later lease, which is kept.
        """
        with self._lock:
            for lease in leases:
                if self._leases.get(lease.slice_id) == lease:
                    self._remove(lease)

    def _remove(self, lease: Lease) -> None:
        del self._leases[lease.slice_id], self._unanswered[lease.slice_id]
