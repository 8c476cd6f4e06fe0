"""The states that batches, slices and jobs can be in."""

from enum import StrEnum


class BatchStatus(StrEnum):
    """validating → in_progress → completed | failed | expired | cancelling → cancelled."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True when nothing of the batch will change any more."""
        return self in _ENDED


_ENDED = frozenset({BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED})


class SliceState(StrEnum):
    """queued ⇄ leased → done; a slice that was split leaves its jobs to its halves and is done."""

    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"


class Outcome(StrEnum):
    """How a job ended; a job without a result row is open."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
