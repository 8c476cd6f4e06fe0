"""The peer watch of a process tells which other workers are live, and whether one that could serve may come back."""

import time
from collections.abc import Callable

STALE_WORKER_SECONDS = 3600.0  # without a heartbeat, after which a worker's row is deleted
# A worker is not live after so long without a heartbeat. A loaded machine may delay heartbeats, and a batch that fails
# although a worker would have served it costs more than one that fails late.
MAX_MISSED_LEASES, MIN_SILENT_SECONDS = 3, 60.0


class PeerWatch:
    """Remembers when a live worker could last serve a pipeline, because a worker that restarts has no row meanwhile.

    contact_seconds: returns for how long this process has reached the database; before, others could not reach it
        either, and their silence says nothing.
    """

    def __init__(
        self,
        lease_seconds: float,
        contact_seconds: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_silent_seconds = max(MAX_MISSED_LEASES * lease_seconds, MIN_SILENT_SECONDS)
        self._contact_seconds = contact_seconds
        self._monotonic = monotonic
        self._seen_at: dict[tuple[str, str | None], float] = {}

    @property
    def silent_seconds(self) -> float:
        """After how long without a heartbeat a worker is not live."""
        has_waited = self._contact_seconds() >= self._max_silent_seconds
        return self._max_silent_seconds if has_waited else STALE_WORKER_SECONDS

    def record_server(self, pipeline: str, revision: str | None) -> None:
        """Record that a live worker could serve the pipeline at this revision; None = at any."""
        self._seen_at[pipeline, revision] = self._monotonic()

    def may_return(self, pipeline: str, revision: str | None) -> bool:
        """Whether such a worker was live so recently that it may be restarting."""
        seen_at = self._seen_at.get((pipeline, revision))
        return seen_at is not None and self._monotonic() - seen_at < self._max_silent_seconds
