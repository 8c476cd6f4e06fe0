"""The states of batches, slices, jobs, workers and runs."""

from enum import StrEnum


class BatchStatus(StrEnum):
    """validating → in_progress → completed; or → cancelling → cancelled | expired | failed.

    A batch is `cancelling` while its unanswered jobs are closed, for any reason; for few jobs this is never visible.
    A batch that has ended is `deleting` while its rows are deleted.
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
        """Whether the batch will not change any more."""
        return self in _ENDED


_ENDED = frozenset({BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED})


class SliceState(StrEnum):
    """queued ⇄ leased → done; a slice that is split is done, and new slices take over its jobs."""

    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"


class WorkerState(StrEnum):
    """starting → loading ⇄ ready; or `idle`, with nothing loaded, until the next attempt to load."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    IDLE = "idle"


class AttemptOutcome(StrEnum):
    """The outcome of one claim of a slice."""

    DONE = "done"
    RELEASED = "released"  # requeued in good order
    RETRIED = "retried"  # deferred: the failure is transient
    LEASE_EXPIRED = "lease_expired"  # its holder sent no heartbeat in time
    KILLED = "killed"  # its holder was killed from outside
    CRASHED = "crashed"  # its holder crashed, perhaps because of an input
    HUNG = "hung"  # its holder was killed because the device did not return
    BATCH_ENDED = "batch_ended"  # the batch was terminated


class JobOutcome(StrEnum):
    """The outcome of a job; a job without a result is unanswered."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class FinishReason(StrEnum):
    """The end of generated texts, in OpenAI's words; of several texts of a job, `length` if any was cut off."""

    STOP = "stop"  # the model ended it, or a stop string or an output schema did
    LENGTH = "length"  # its limit of tokens or of time came first


class Termination(StrEnum):
    """The reason why a batch ends before its jobs are done."""

    CANCELLED = "cancelled"  # a user cancelled it
    EXPIRED = "expired"  # its deadline passed
    FAILED = "failed"  # its model can't be used: every unanswered job fails
    FAILURE_LIMIT = "failure_limit"  # more jobs failed than allowed: the remaining jobs are not run

    @property
    def status(self) -> BatchStatus:
        """The final status of the batch."""
        return BatchStatus.FAILED if self is Termination.FAILURE_LIMIT else BatchStatus(self.value)

    @property
    def outcome(self) -> JobOutcome:
        """The outcome of the batch's unanswered jobs."""
        return JobOutcome.CANCELLED if self is Termination.FAILURE_LIMIT else JobOutcome(self.value)


class RunState(StrEnum):
    """waiting → running → completed | failed; a scheduled time without a run is `skipped` or `missed`."""

    WAITING = "waiting"  # for its source, or for an earlier run
    RUNNING = "running"  # its batch was accepted
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"  # the previous run had not ended
    MISSED = "missed"  # no process ran when it was due, and the schedule does not catch up

    @property
    def is_open(self) -> bool:
        """Whether the run has not ended."""
        return self in (RunState.WAITING, RunState.RUNNING)


class RunTrigger(StrEnum):
    """The reason why a run exists."""

    CRON = "cron"
    MANUAL = "manual"  # started by `schedule trigger`
    BACKFILL = "backfill"  # a past scheduled time, run again
    AFTER = "after"  # the run of another schedule completed
