"""The result writer decodes outputs and commits them with their slices and counters, in the write thread."""

import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from random import Random
from typing import Any

from sqlalchemy import Connection, bindparam, text

from models import backoff
from models.dialects import driver_errors
from models.dialects.fragments import SqlFragments, comma_separated
from models.errors import DatabaseRefused
from models.processes.failpoints import failpoint
from models.states import JobOutcome
from worker import process_memory
from worker.adapters.rows import Row
from worker.engine import measurement, outcomes
from worker.engine.assembly import PartAssembler
from worker.engine.context import LoadedPipeline, WorkerContext
from worker.engine.output_guards import OutputGuards
from worker.engine.portions import RawOutputs
from worker.leasing import activity, commit, usage
from worker.leasing.chunking import split_into_chunks
from worker.leasing.claiming.claim_statements import LOCK_BATCHES
from worker.leasing.job_results import BatchCommit, CommitResult, DeferredSlice, JobResult, RetryableFailure
from worker.leasing.leases import Lease
from worker.leasing.retry import retry_while_unreachable
from worker.passes.watchdog import Watchdog

# Small batches share a commit, and no batch's row is locked for long.
MAX_BATCHES_PER_COMMIT, MAX_RESULTS_PER_COMMIT = 64, 256
# Outputs may be far larger than inputs: fill-mask may repeat a text with each of a thousand words.
MAX_CHARACTERS_PER_COMMIT = 8 * 2**20

LOCK_SLICES = "SELECT id FROM slices WHERE id {in_numbers} ORDER BY id {for_update}"


@dataclass(frozen=True, slots=True)
class BatchResults:
    """The results of one batch in one commit, and the leases concerned."""

    results: list[JobResult] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)


class ResultWriter:
    """Assembles jobs and commits their results under their fencing tokens, several batches in one transaction."""

    def __init__(
        self,
        context: WorkerContext,
        pipeline: LoadedPipeline,
        watchdog: Watchdog,
        output_guards: OutputGuards,
        log: Any,
    ) -> None:
        self._settings = context.settings
        self._database = context.database
        self._held_leases = context.held_leases
        self._adapter = pipeline.runtime.adapter
        self._version_id = pipeline.version_id
        self._worker_id = pipeline.claimant.worker_id
        self._pipeline = pipeline.claimant.pipeline
        self._metrics = context.metrics
        self._guards = pipeline.claimant.guards
        self._watchdog = watchdog
        self._output_guards = output_guards
        self._max_characters = min(MAX_CHARACTERS_PER_COMMIT, output_guards.max_chunk_characters or math.inf)
        self._log = log
        self._rng = Random()  # noqa: S311 - jitter keeps no secret
        self._assembler = PartAssembler()
        self._failures_by_lease: dict[Lease, list[RetryableFailure]] = {}

    def write(self, items: Sequence[RawOutputs | Sequence[Lease]]) -> None:
        """Commit these outputs, and finish the slices that turned out to have no unanswered job.

        Raises Interrupted if the worker stops while guards read outputs; the jobs of these stay unanswered.
        """
        held_leases = set(self._held_leases.leases())  # at most one for each slice
        self._assembler.discard_others(held_leases)
        self._failures_by_lease = {
            lease: failures for lease, failures in self._failures_by_lease.items() if lease in held_leases
        }
        leases = [lease for item in items if not isinstance(item, RawOutputs) for lease in item if lease in held_leases]
        if leases:
            self._write_all([], leases)
        for job_outcomes in self._decode([item for item in items if isinstance(item, RawOutputs)], held_leases):
            screened = self._output_guards.screen(job_outcomes)
            self._write_all(screened, {id(outcome.lease): outcome.lease for outcome in screened}.values())

    def _decode(
        self, raw_outputs: Sequence[RawOutputs], held_leases: Collection[Lease]
    ) -> Iterator[list[JobResult | RetryableFailure]]:
        """Yield the decoded outcomes, in chunks small enough for one commit."""
        all_outcomes = chain.from_iterable(
            self._decode_micro_batch(micro_batch, held_leases) for micro_batch in raw_outputs
        )
        while True:
            chunk: list[JobResult | RetryableFailure] = []
            characters = 0
            with self._watchdog.watch():
                for outcome in all_outcomes:
                    chunk.append(outcome)
                    if isinstance(outcome, JobResult):
                        characters += len(outcome.output or outcome.vector or "")
                    if characters > self._max_characters:
                        break
            if not chunk:
                return
            yield chunk
            if characters > MAX_CHARACTERS_PER_COMMIT:
                process_memory.trim_heap()

    def _write_all(self, job_outcomes: Sequence[JobResult | RetryableFailure], leases: Iterable[Lease]) -> None:
        results = [outcome for outcome in job_outcomes if isinstance(outcome, JobResult)]
        for outcome in job_outcomes if len(results) < len(job_outcomes) else ():
            if isinstance(outcome, RetryableFailure):
                self._failures_by_lease.setdefault(outcome.lease, []).append(outcome)
        batches = _group_by_batch(results, {lease.slice_id: lease for lease in leases}.values())
        for group in _group_for_commit(batches):
            self._write_batches(group)

    def _decode_micro_batch(
        self, raw_outputs: RawOutputs, held_leases: Collection[Lease]
    ) -> Iterator[JobResult | RetryableFailure]:
        rows = raw_outputs.rows
        has_lost = any(lease not in held_leases for lease in _leases_of(rows))
        if has_lost:
            rows = [(row, output) for row, output in rows if any(job.lease in held_leases for job in row.jobs)]
        seconds_per_row = raw_outputs.device_seconds / len(raw_outputs.rows)
        complete = self._assembler.add(rows, raw_outputs.width, seconds_per_row)
        job_outcomes = outcomes.results_for(self._adapter, complete, self._settings.max_attempts)
        return (item for item in job_outcomes if item.lease in held_leases) if has_lost else job_outcomes

    def _write_batches(self, batches: Sequence[BatchResults]) -> None:
        try:
            self._commit(batches)
        except DatabaseRefused as error:
            if not driver_errors.is_data_error(error):
                raise
            self._write_apart(batches, error)

    def _write_apart(self, batches: Sequence[BatchResults], error: DatabaseRefused) -> None:
        """Write the results of a refused commit in two, and so on; the job whose output is refused alone fails.

        Raises the error if it is not due to an output.
        """
        results = [result for batch in batches for result in batch.results]
        leases = {lease.slice_id: lease for batch in batches for lease in batch.leases}
        if len(results) > 1:
            later = results[len(results) // 2 :]
            later_leases = {result.lease.slice_id: result.lease for result in later}
            results = results[: len(results) // 2]
            earlier_ids = {result.lease.slice_id for result in results}
            leases = {key: lease for key, lease in leases.items() if key in earlier_ids or key not in later_leases}
            parts = [(results, leases), (later, later_leases)]
        elif results and (results[0].output is not None or results[0].vector is not None):
            parts = [([self._fail_unstorable(results[0], error)], leases)]
        else:
            raise error
        for part, part_leases in parts:
            self._write_batches(_group_by_batch(part, part_leases.values()))

    def _fail_unstorable(self, result: JobResult, error: DatabaseRefused) -> JobResult:
        batch_id = result.lease.batch_id
        self._log.warning("job.failed", batch_id=batch_id, position=result.position, error=type(error).__name__)
        message = "the database can't store this output, mostly because it is too large; split the text"
        return replace(
            result,
            status=JobOutcome.FAILED,
            output=None,
            vector=None,
            error_code="output_too_large",
            error_message=message,
        )

    def _commit(self, batches: Sequence[BatchResults]) -> None:
        commits = [self._plan_commit(batch_results) for batch_results in batches]

        def commit_all(is_retry: bool) -> list[CommitResult]:
            with self._database.write() as connection:
                if len(commits) > 1:
                    _lock_rows(connection, self._database.sql, batches)
                commit_results = [commit.commit_results(connection, planned, is_retry=is_retry) for planned in commits]
                works = [result.work for result in commit_results if result.work]
                usage.add_usage(connection, works, self._worker_id)
                activity.add_activity(connection, works, self._worker_id)
                failpoint("before_commit")
                return commit_results

        started = time.monotonic()
        commit_results = retry_while_unreachable(commit_all)
        failpoint("after_commit")
        self._metrics.record_commit(self._pipeline, time.monotonic() - started)
        for planned, commit_result in zip(commits, commit_results, strict=True):
            measurement.record_commit(self._metrics, self._pipeline, planned, commit_result)
            self._update_leases(planned, commit_result)
            self._log_commit(planned, commit_result)

    def _plan_commit(self, batch_results: BatchResults) -> BatchCommit:
        """Find the slices that these results finish, and those to defer because only retryable failures are left."""
        results, leases = batch_results.results, batch_results.leases
        counts = _count_by_slice(results)
        unanswered = {lease: self._held_leases.unanswered_jobs(lease) - counts[lease.slice_id] for lease in leases}
        deferred_slices = [
            DeferredSlice(lease, self._draw_backoff(lease), tuple(failures))
            for lease in leases
            if (failures := self._failures_by_lease.get(lease)) and unanswered[lease] == len(failures)
        ]
        finished_slice_ids = {lease.slice_id for lease in leases if unanswered[lease] <= 0}
        return BatchCommit(leases, results, finished_slice_ids, self._version_id, deferred_slices, guards=self._guards)

    def _draw_backoff(self, lease: Lease) -> float:
        base_seconds, max_seconds = self._settings.retry_base_seconds, self._settings.max_retry_seconds
        return backoff.backoff_seconds(lease.retries + 1, base_seconds, max_seconds, self._rng)

    def _update_leases(self, planned: BatchCommit, commit_result: CommitResult) -> None:
        counts = _count_by_slice(planned.results)
        self._held_leases.discard(lease for lease in planned.leases if lease.slice_id in commit_result.lost_slice_ids)
        self._held_leases.discard(deferred.lease for deferred in planned.deferred_slices)
        for lease in planned.leases:
            if lease.slice_id not in commit_result.lost_slice_ids:
                self._held_leases.count_results(lease, counts[lease.slice_id])

    def _log_commit(self, planned: BatchCommit, commit_result: CommitResult) -> None:
        batch_id = planned.leases[0].batch_id
        for deferred in planned.deferred_slices:
            self._log.warning(
                "jobs.retry_scheduled",
                batch_id=batch_id,
                slice_id=deferred.lease.slice_id,
                jobs=len(deferred.failures),
                retry_seconds=round(deferred.delay_seconds, 1),
                error=deferred.failures[-1].error_message,
            )
        if commit_result.final_status:
            self._log.info("batch.ended", batch_id=batch_id, status=commit_result.final_status.value)
        elif commit_result.lost_slice_ids:
            self._log.warning("leases.lost", batch_id=batch_id, slice_ids=sorted(commit_result.lost_slice_ids))


def _leases_of(rows: Iterable[tuple[Row, Any]]) -> Iterable[Lease]:
    """The leases of these rows and of their duplicates; micro-batches have many rows of few leases."""
    leases = {id(row.job.lease): row.job.lease for row, _ in rows}
    for row, _ in rows:
        if row.duplicates:
            leases.update((id(job.lease), job.lease) for job in row.duplicates)
    return leases.values()


def _count_by_slice(results: Iterable[JobResult]) -> Counter[int]:
    return Counter([result.lease.slice_id for result in results])


def _group_for_commit(batches: Iterable[BatchResults]) -> Iterator[list[BatchResults]]:
    """Group batches with few results; a batch with many has a commit for itself."""
    return split_into_chunks(batches, lambda batch: len(batch.results), MAX_RESULTS_PER_COMMIT, MAX_BATCHES_PER_COMMIT)


def _group_by_batch(results: Iterable[JobResult], leases: Iterable[Lease]) -> list[BatchResults]:
    """In the order of batch ids."""
    batches: dict[str, BatchResults] = {}
    for lease in leases:
        batches.setdefault(lease.batch_id, BatchResults()).leases.append(lease)
    for result in results:
        batches[result.lease.batch_id].results.append(result)
    return [batch for _, batch in sorted(batches.items())]


def _lock_rows(connection: Connection, sql: SqlFragments, batches: Sequence[BatchResults]) -> None:
    """Lock all batches by id, then all slices by id; batch after batch would lock slices before batches."""
    leases = [lease for batch in batches for lease in batch.leases]
    lock_batches = text(LOCK_BATCHES.format(for_update=sql.for_update))
    lock_slices = text(LOCK_SLICES.format(for_update=sql.for_update, in_numbers=sql.in_numbers))
    batch_ids = sorted({lease.batch_id for lease in leases})
    connection.execute(lock_batches.bindparams(bindparam("batch_ids", expanding=True)), {"batch_ids": batch_ids})
    connection.execute(lock_slices, {"numbers": comma_separated(lease.slice_id for lease in leases)})
