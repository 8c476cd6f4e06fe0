"""Measurements of the engine, as a metrics recorder takes them: sums over a micro-batch or a commit."""

import time
from collections import Counter

from models.states import JobOutcome
from worker.leasing.job_results import BatchCommit, CommitResult, JobResult
from worker.metrics.recorder import MetricsRecorder


def record_device_time(metrics: MetricsRecorder, pipeline: str, model_seconds: float, guard_seconds: float) -> None:
    """Record what a micro-batch, or the guards since the last time, took of the device."""
    if model_seconds:
        metrics.record_micro_batch(pipeline, model_seconds)
    if guard_seconds:
        metrics.record_guard_time(pipeline, guard_seconds)


def record_commit(metrics: MetricsRecorder, pipeline: str, planned: BatchCommit, result: CommitResult) -> None:
    """Record what one batch's part of a commit has stored, and the batch's end."""
    if not metrics.is_enabled:
        return
    if work := result.work:
        stored = _stored_results(planned, result)
        failures = Counter(job.error_code or "" for job in stored if job.status is JobOutcome.FAILED)
        metrics.record_results(pipeline, work.succeeded, failures, work.tokens, work.padded_tokens)
        if planned.guards:
            verdicts: Counter[tuple[str, str, str]] = Counter(
                (verdict.guard, verdict.on, verdict.action) for job in stored for verdict in job.verdicts
            )
            metrics.record_verdicts(pipeline, verdicts)
    if retried := sum(len(deferred.failures) for deferred in planned.deferred_slices):
        metrics.record_retries(pipeline, retried)
    if result.final_status:
        deadline_at = planned.leases[0].deadline_at
        margin = None if deadline_at is None else deadline_at - time.monotonic()
        metrics.record_batch_end(pipeline, result.final_status.value, margin)


def _stored_results(planned: BatchCommit, result: CommitResult) -> list[JobResult]:
    """The results that were stored, or all that were planned when the commit ended the batch."""
    lost = frozenset() if result.final_status else result.lost_slice_ids
    return [job for job in planned.results if job.lease.slice_id not in lost]
