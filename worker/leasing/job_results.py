"""What a commit writes and what comes of it: results, failures to be retried, and the slices that they end or defer."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from models.guards.definition import Guard
from models.guards.verdict import Verdict
from models.states import AttemptOutcome, BatchStatus, JobOutcome
from worker.leasing.leases import Lease
from worker.leasing.usage import ComputedWork


@dataclass(slots=True)  # not frozen, which would triple the time to make one
class JobResult:
    """One job's result, ready to be written; `tokens`, `padded_tokens` and `device_seconds` are its cost.

    windows: in which the text was read, None = no model read it.
    input_tokens: that the model read, None = no model read it. Duplicates have it too, although they cost nothing.
    output_tokens: that it generated, with the end of each text, None = its task generates nothing.
    finish_reason: how the texts ended, see `FinishReason`.
    guard_seconds: device time of each guard that has a model.
    redacted_input: the input that the model read instead of the job's own, None = the job's own.
    keep_original: whether the job keeps its input as submitted beside the redacted one.

    Not to be changed.
    """

    lease: Lease
    position: int
    status: JobOutcome
    output: str | None = None  # JSON
    vector: bytes | None = None  # instead of `output`; see `models/vectors.py`
    error_code: str | None = None
    error_message: str | None = None
    truncated: bool = False
    tokens: int = 0
    padded_tokens: int = 0
    device_seconds: float = 0.0
    windows: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    verdicts: Sequence[Verdict] = ()
    guard_seconds: Mapping[str, float] | None = None
    redacted_input: str | None = None  # JSON
    keep_original: bool = False


@dataclass(frozen=True, slots=True)
class RetryableFailure:
    """One job's transient failure, to be retried later."""

    lease: Lease
    position: int
    error_code: str
    error_message: str


@dataclass(frozen=True, slots=True)
class DeferredSlice:
    """A slice that is queued again after `delay_seconds`, because of these failures."""

    lease: Lease
    delay_seconds: float
    failures: tuple[RetryableFailure, ...]


@dataclass(frozen=True, slots=True)
class BatchCommit:
    """One batch's part of a commit.

    leases: the slices concerned, all of one batch.
    finished_slice_ids: slices that have no unanswered job after this commit.
    version_id: the `model_versions` row of the results; None = no model answered.
    deferred_slices: slices that are queued again for a later retry.
    attempt_outcome: the outcome of the finished slices' attempts.
    guards: the guards that read these jobs, by name; their verdicts are counted.
    """

    leases: Sequence[Lease]
    results: Sequence[JobResult] = ()
    finished_slice_ids: Collection[int] = ()
    version_id: int | None = None
    deferred_slices: Sequence[DeferredSlice] = ()
    attempt_outcome: AttemptOutcome = AttemptOutcome.DONE
    guards: Mapping[str, Guard] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The effect of a commit: rows written, slices lost to other processes, and the batch's final status, if any.

    work: what was computed, for `usage` and `activity` at the end of the transaction; None = nothing.
    """

    results_written: int
    lost_slice_ids: frozenset[int]
    final_status: BatchStatus | None
    work: ComputedWork | None = field(default=None, compare=False)
