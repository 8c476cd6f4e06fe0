"""What this process holds right now: its leases, and how many jobs of each are still open."""

import threading
from collections import Counter
from collections.abc import Iterable

from worker.leasing.claims import Job, Lease, Size


class Holdings:
    """Thread-safe: the claim thread adds, the write thread settles, the heartbeat renews and finds losses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: dict[int, Lease] = {}
        self._open: Counter[int] = Counter()

    def add(self, leases: Iterable[Lease], jobs: Iterable[Job | Size]) -> None:
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
        """How many jobs of this slice have no result yet; none once it is held no longer."""
        with self._lock:
            return self._open[lease.slice_id] if self._leases.get(lease.slice_id) == lease else 0

    def answered(self, lease: Lease, jobs: int) -> None:
        """Count committed results; a slice without open jobs is held no longer."""
        with self._lock:
            if self._leases.get(lease.slice_id) == lease:
                self._open[lease.slice_id] -= jobs
                if self._open[lease.slice_id] <= 0:
                    self._forget(lease)

    def drop(self, leases: Iterable[Lease]) -> None:
        """These are somebody else's now: whatever is still computed for them is thrown away.

        That somebody may be this process under a later lease, which is kept.
        """
        with self._lock:
            for lease in leases:
                if self._leases.get(lease.slice_id) == lease:
                    self._forget(lease)

    def _forget(self, lease: Lease) -> None:
        del self._leases[lease.slice_id], self._open[lease.slice_id]
