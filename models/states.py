"""The states that batches, slices and jobs can be in."""

from enum import StrEnum


class BatchStatus(StrEnum):
    """validating → in_progress → completed; or → cancelling → cancelled | expired | failed.

    A batch is `cancelling` while what is left of it is closed, whatever the reason; with little left nobody sees it.
    One that has ended may be `deleting` for a while, and then there is none.
    """

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DELETING = "deleting"

    @property
    def has_ended(self) -> bool:
        """True when nothing of the batch will change any more."""
        return self in _ENDED


_ENDED = frozenset({BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED})


class SliceState(StrEnum):
    """queued ⇄ leased → done; a slice that was split leaves its jobs to its halves and is done."""

    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"


class WorkerState(StrEnum):
    """starting → loading ⇄ ready; or `idle`, with nothing loaded, while the next try to load has to wait."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    IDLE = "idle"


class AttemptOutcome(StrEnum):
    """How one claim of a slice ended."""

    DONE = "done"
    RELEASED = "released"  # given back in good order
    RETRIED = "retried"  # put off: what failed may pass with time
    LEASE_EXPIRED = "lapsed"  # its holder fell silent
    KILLED = "killed"  # its holder was killed from outside
    CRASHED = "died"  # its holder died of its own, perhaps of an input
    HUNG = "hung"  # its holder was ended since the device did not come back
    BATCH_ENDED = "stopped"  # the batch was ended early


class JobOutcome(StrEnum):
    """How a job ended; a job without a result row is open."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Termination(StrEnum):
    """Why a batch ends before its jobs do."""

    CANCELLED = "cancelled"  # somebody said so
    EXPIRED = "expired"  # its deadline passed
    FAILED = "failed"  # its model can't be used: every open job fails with it
    FAILURE_LIMIT = "burned"  # more jobs failed than it allows: what is left is not tried

    @property
    def status(self) -> BatchStatus:
        """What the batch will be."""
        return BatchStatus.FAILED if self is Termination.FAILURE_LIMIT else BatchStatus(self.value)

    @property
    def outcome(self) -> JobOutcome:
        """What its open jobs come to."""
        return JobOutcome.CANCELLED if self is Termination.FAILURE_LIMIT else JobOutcome(self.value)


class RunState(StrEnum):
    """waiting → running → completed | failed; a slot that got no run is `skipped` or `missed`."""

    WAITING = "waiting"  # for its source, or for the run before
    RUNNING = "running"  # its batch is accepted
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"  # the run before was still at it
    MISSED = "missed"  # nobody was there when it was due, and the schedule does not catch it up

    @property
    def is_open(self) -> bool:
        """True while something is still to be done."""
        return self in (RunState.WAITING, RunState.RUNNING)


class RunTrigger(StrEnum):
    """Why there is a run."""

    CRON = "cron"
    MANUAL = "trigger"  # somebody said: now
    BACKFILL = "backfill"  # somebody said: that slot again
