"""What this process holds right now: its leases, and how many jobs of each are still open."""

import threading
from collections import Counter
from collections.abc import Iterable

from worker.claims import Job, Lease


class Holdings:
    """Thread-safe: the claim thread adds, the write thread settles, the heartbeat renews and finds losses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: dict[int, Lease] = {}
        self._open: Counter[int] = Counter()

    def add(self, leases: Iterable[Lease], jobs: Iterable[Job]) -> None:
        """Begin to hold these slices, of which these jobs are open."""
        with self._lock:
            for lease in leases:
                self._leases[lease.slice_id] = lease
                self._open[lease.slice_id] = 0
            self._open.update(job.lease.slice_id for job in jobs)

    def leases(self) -> list[Lease]:
        """All that is held."""
        with self._lock:
            return list(self._leases.values())

    def holds(self, lease: Lease) -> bool:
        """False once the lease was lost, closed or dropped."""
        with self._lock:
            return self._leases.get(lease.slice_id) == lease

    def open_jobs(self, lease: Lease) -> int:
        """How many jobs of this slice have no result yet."""
        with self._lock:
            return self._open[lease.slice_id]

    def answered(self, lease: Lease, jobs: int) -> None:
        """Count committed results; a slice without open jobs is held no longer."""
        with self._lock:
            self._open[lease.slice_id] -= jobs
            if self._open[lease.slice_id] <= 0:
                self._forget(lease.slice_id)

    def drop(self, slice_ids: Iterable[int]) -> None:
        """These are somebody else's now: whatever is still computed for them is thrown away."""
        with self._lock:
            for slice_id in slice_ids:
                self._forget(slice_id)

    def _forget(self, slice_id: int) -> None:
        self._leases.pop(slice_id, None)
        self._open.pop(slice_id, None)
