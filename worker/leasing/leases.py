"""Leases, the jobs in them, and the record of the leases that this process holds."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from models.guards.definition import Guard
from models.guards.screening import Screening
from models.pipelines.options.prompt_template import PromptTemplate
from worker.leasing.quarantine import must_run_alone


@dataclass(frozen=True, slots=True)
class Lease:
    """A slice that this process holds; every write to the slice must name its `fencing_token`.

    queued_seconds: from the beginning of its batch to the first claim; None = it was claimed before
    deadline_at: of its batch, by this process' monotonic clock
    """

    slice_id: int
    batch_id: str
    start_position: int
    size: int
    fencing_token: int
    attempts: int
    parameters: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    crashes: int = 0
    lost_leases: int = 0
    retries: int = 0
    max_attempts: int | None = None  # of its batch; None = the setting
    prompt: PromptTemplate | None = field(default=None, hash=False, compare=False)  # of its batch
    queued_seconds: float | None = field(default=None, compare=False)
    deadline_at: float | None = field(default=None, compare=False)

    def __hash__(self) -> int:
        # The fields that identify a claim; all of them would take longer than anything else that is done with a result.
        return hash((self.slice_id, self.fencing_token))

    @property
    def is_quarantined(self) -> bool:
        """Whether it must run alone because it may crash workers, so that another crash identifies it."""
        return must_run_alone(self.crashes, self.lost_leases)


@dataclass(slots=True)  # not frozen, which would triple the time to make one
class Job:
    """One input of a held slice that has no result yet.

    size_bytes: the length of the input's JSON.
    screening: what the guards made of the input, None = there are none; `input` is as they left it.
    """

    lease: Lease
    position: int
    input: dict[str, Any]
    size_bytes: int = 0
    screening: Screening | None = None

    @property
    def memory_bytes(self) -> int:
        """The approximate size of the input in memory, with what the guards made of it."""
        return self.size_bytes if self.screening is None else self.size_bytes + self.screening.memory_bytes


@dataclass(frozen=True, slots=True)
class Claimant:
    """A worker and its loaded model, which must match a batch's revision once that is set.

    can_begin_batches: whether it may set a batch's revision; False for a revision older than the catalogue's.
    guards: the guards that it applies, by name; a batch that needs others is not claimed.
    """

    worker_id: str
    pipeline: str
    task: str
    model: str
    revision: str
    lease_seconds: float
    can_begin_batches: bool = True
    guards: Mapping[str, Guard] = field(default_factory=dict, hash=False)


@dataclass(slots=True)  # not frozen, as above
class JobSize:
    """The size of the input of a job without result, in bytes of JSON."""

    lease: Lease
    position: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SliceRange:
    """A part of a held slice: the positions from `start_position` up to, but without, `end_position`."""

    lease: Lease
    start_position: int
    end_position: int


class HeldLeases:
    """The leases that this process holds, with their unanswered jobs.

    Thread-safe: the claim thread adds, the write thread counts results, the heartbeat discards lost leases.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: dict[int, Lease] = {}
        self._unanswered: Counter[int] = Counter()
        self._is_claiming = False

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Mark the time of a claim: slices are leased in SQL a moment before they are added here."""
        self._is_claiming = True
        try:
            yield
        finally:
            self._is_claiming = False

    def may_hold_any(self) -> bool:
        """Whether a lease is held, or a claim under way may get one."""
        with self._lock:
            return self._is_claiming or bool(self._leases)

    def add(self, leases: Iterable[Lease], jobs: Iterable[Job | JobSize]) -> None:
        """Hold these leases, whose unanswered jobs are `jobs`."""
        with self._lock:
            for lease in leases:
                self._leases[lease.slice_id] = lease
                self._unanswered[lease.slice_id] = 0
            self._unanswered.update(job.lease.slice_id for job in jobs)

    def leases(self) -> list[Lease]:
        """Return all held leases."""
        with self._lock:
            return list(self._leases.values())

    def is_held(self, lease: Lease) -> bool:
        """Whether the lease is held: it was neither lost, finished nor discarded."""
        with self._lock:
            held = self._leases.get(lease.slice_id)
            return held is lease or held == lease

    def lost(self, leases: Iterable[Lease]) -> list[Lease]:
        """Return those of these leases that are not held."""
        with self._lock:
            return [
                lease for lease in leases if (held := self._leases.get(lease.slice_id)) is not lease and held != lease
            ]

    def unanswered_jobs(self, lease: Lease) -> int:
        """Return how many jobs of this slice have no result yet; 0 when the lease is not held."""
        with self._lock:
            return self._unanswered[lease.slice_id] if self._leases.get(lease.slice_id) == lease else 0

    def count_results(self, lease: Lease, result_count: int) -> None:
        """Count committed results; a slice without unanswered jobs is no longer held."""
        with self._lock:
            if self._leases.get(lease.slice_id) == lease:
                self._unanswered[lease.slice_id] -= result_count
                if self._unanswered[lease.slice_id] <= 0:
                    self._remove(lease)

    def discard(self, leases: Iterable[Lease]) -> None:
        """Drop leases that were lost or released; a later lease on the same slice is kept."""
        with self._lock:
            for lease in leases:
                if self._leases.get(lease.slice_id) == lease:
                    self._remove(lease)

    def _remove(self, lease: Lease) -> None:
        del self._leases[lease.slice_id], self._unanswered[lease.slice_id]
