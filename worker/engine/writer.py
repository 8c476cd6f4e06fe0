"""Closing: what came off the device is decoded, and written with its slices and counters. Of the write thread alone."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, text

from models.db import Database, SqlFragments, comma_separated
from models.failpoints import failpoint
from worker import process_memory
from worker.adapters.interface import Adapter
from worker.engine import outcomes
from worker.engine.assembly import PartAssembler
from worker.engine.device_loop import RawOutputs
from worker.engine.watchdog import Watchdog
from worker.leasing import commit
from worker.leasing.chunking import split_into_chunks
from worker.leasing.claim_statements import LOCK_BATCHES
from worker.leasing.commit import DeferredSlice, JobResult, RetryableFailure
from worker.leasing.leases import HeldLeases, Lease
from worker.leasing.retry import retry_while_unreachable

# In one transaction: small batches share a commit, and none has its row locked for long.
MAX_BATCHES_PER_COMMIT, MAX_RESULTS_PER_COMMIT = 64, 256
# Answers may be far larger than what they answer: a text with each of a thousand words for its mask.
MAX_CHARACTERS_PER_COMMIT = 8 * 2**20

LOCK_SLICES = "SELECT id FROM slices WHERE id {in_numbers} ORDER BY id {for_update}"

Backoff = Callable[[int], float]  # seconds to wait, by the number of the try that failed


def no_backoff(_tries: int) -> float:
    """No backoff."""
    return 0.0


@dataclass(frozen=True, slots=True)
class BatchResults:
    """What there is to close of one batch."""

    results: list[JobResult] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)

    @property
    def results_per_slice(self) -> Counter[int]:
        """How many answers each slice has, by id."""
        return Counter(answer.lease.slice_id for answer in self.results)


class ResultWriter:
    """Puts jobs' parts together, and closes them under their fences, some batches in one transaction."""

    def __init__(
        self,
        database: Database,
        adapter: Adapter,
        held_leases: HeldLeases,
        *,
        version_id: int,
        max_attempts: int,
        backoff: Backoff,
        watchdog: Watchdog,
        log: Any,
    ) -> None:
        self._database = database
        self._adapter = adapter
        self._held_leases = held_leases
        self._version_id = version_id
        self._max_attempts = max_attempts
        self._backoff = backoff
        self._watchdog = watchdog
        self._log = log
        self._assembler = PartAssembler()
        self._failures_by_lease: dict[Lease, list[RetryableFailure]] = {}

    def write(self, items: Sequence[RawOutputs | Sequence[Lease]]) -> None:
        """Answer what came off the device, and the slices that turned out to have no open job."""
        held = set(self._held_leases.leases())  # at most one for each slice, though it may have been claimed twice
        self._assembler.discard_others(held)
        self._failures_by_lease = {lease: of_it for lease, of_it in self._failures_by_lease.items() if lease in held}
        leases = [lease for item in items if not isinstance(item, RawOutputs) for lease in item if lease in held]
        if leases:
            self._write_all([], leases)
        for found in self._decode([item for item in items if isinstance(item, RawOutputs)], held):
            self._write_all(found, [one.lease for one in found])

    def _decode(
        self, raw_outputs: Sequence[RawOutputs], held_leases: Collection[Lease]
    ) -> Iterator[list[JobResult | RetryableFailure]]:
        """What they come to, as much of it as is written in one go."""
        found: list[JobResult | RetryableFailure] = []
        size = 0
        answers_of_all = (
            one for raw in raw_outputs for one in self._decode_micro_batch(raw, held_leases) if one.lease in held_leases
        )
        while True:
            with self._watchdog.watch():
                for one in answers_of_all:
                    found.append(one)
                    size += len(one.output or "") if isinstance(one, JobResult) else 0
                    if size > MAX_CHARACTERS_PER_COMMIT:
                        break
            if not found:
                return
            yield found
            if size > MAX_CHARACTERS_PER_COMMIT:
                process_memory.trim_heap()
            found, size = [], 0

    def _write_all(self, job_outcomes: Sequence[JobResult | RetryableFailure], leases: Iterable[Lease]) -> None:
        for one in job_outcomes:
            if isinstance(one, RetryableFailure):
                self._failures_by_lease.setdefault(one.lease, []).append(one)
        answered = [one for one in job_outcomes if isinstance(one, JobResult)]
        for some in _group_for_commit(_group_by_batch(answered, {lease.slice_id: lease for lease in leases}.values())):
            self._write_batches(some)

    def _decode_micro_batch(
        self, raw_outputs: RawOutputs, held_leases: Collection[Lease]
    ) -> Iterator[JobResult | RetryableFailure]:
        rows = [(row, raw) for row, raw in raw_outputs.rows if any(job.lease in held_leases for job in row.jobs)]
        for parts in self._assembler.add(rows, raw_outputs.width, raw_outputs.device_seconds / len(raw_outputs.rows)):
            yield from outcomes.results_for(self._adapter, parts, self._max_attempts)

    def _write_batches(self, batch_results: Sequence[BatchResults]) -> None:
        closes = [self._plan_write(of_batch) for of_batch in batch_results]

        def write(again: bool) -> list[commit.CommitResult]:
            with self._database.write() as connection:
                if len(closes) > 1:
                    _lock_rows(connection, self._database.sql, batch_results)
                done = [
                    commit.commit_results(
                        connection,
                        self._database.sql,
                        each.results,
                        each.leases,
                        finished,
                        self._version_id,
                        deferred_slices=put_off,
                        is_retry=again,
                    )
                    for each, finished, put_off in closes
                ]
                failpoint("before_commit")
                return done

        done = retry_while_unreachable(write)
        failpoint("after_commit")
        for (of_batch, _, put_off), closed in zip(closes, done, strict=True):
            self._update_leases(of_batch, closed, put_off)

    def _plan_write(self, batch_results: BatchResults) -> tuple[BatchResults, set[int], list[DeferredSlice]]:
        """The batch's slices that are finished by this, and those that are put off."""
        counts = batch_results.results_per_slice
        left = {
            lease: self._held_leases.unanswered_jobs(lease) - counts[lease.slice_id] for lease in batch_results.leases
        }
        finished = {lease.slice_id for lease in batch_results.leases if left[lease] <= 0}
        put_off = [
            DeferredSlice(lease, self._backoff(lease.retries + 1), tuple(deferrals))
            for lease in batch_results.leases
            if (deferrals := self._failures_by_lease.get(lease)) and left[lease] == len(deferrals)
        ]
        return batch_results, finished, put_off

    def _update_leases(
        self, batch_results: BatchResults, commit_result: commit.CommitResult, deferred_slices: Sequence[DeferredSlice]
    ) -> None:
        counts = batch_results.results_per_slice
        self._held_leases.discard(
            lease for lease in batch_results.leases if lease.slice_id in commit_result.lost_slice_ids
        )
        self._held_leases.discard(one.lease for one in deferred_slices)
        for lease in batch_results.leases:
            if lease.slice_id not in commit_result.lost_slice_ids:
                self._held_leases.count_results(lease, counts[lease.slice_id])
        self._log_commit(batch_results.leases, commit_result, deferred_slices)

    def _log_commit(
        self, leases: Sequence[Lease], commit_result: commit.CommitResult, deferred_slices: Sequence[DeferredSlice]
    ) -> None:
        batch = leases[0].batch_id
        for one in deferred_slices:
            self._log.warning(
                "failures that may pass: will be tried again",
                batch=batch,
                slice=one.lease.slice_id,
                jobs=len(one.failures),
                seconds=round(one.delay_seconds, 1),
                error=one.failures[-1].error_message,
            )
        if commit_result.final_status:
            self._log.info(f"batch {commit_result.final_status.value}", batch=batch)
        elif commit_result.lost_slice_ids:
            self._log.warning(
                "leases were lost, their work is dropped", batch=batch, slices=sorted(commit_result.lost_slice_ids)
            )


def _group_for_commit(batches: Iterable[BatchResults]) -> Iterator[list[BatchResults]]:
    """Batches of few answers together, one of many by itself."""
    return split_into_chunks(
        batches, lambda of_batch: len(of_batch.results), MAX_RESULTS_PER_COMMIT, MAX_BATCHES_PER_COMMIT
    )


def _group_by_batch(results: Iterable[JobResult], leases: Iterable[Lease]) -> list[BatchResults]:
    """Batch by batch, by id."""
    batches: dict[str, BatchResults] = {}
    for lease in leases:
        batches.setdefault(lease.batch_id, BatchResults()).leases.append(lease)
    for answer in results:
        batches[answer.lease.batch_id].results.append(answer)
    return [of_batch for _, of_batch in sorted(batches.items())]


def _lock_rows(connection: Connection, sql: SqlFragments, batch_results: Sequence[BatchResults]) -> None:
    """All batches by id, then all slices by id: one batch after the other would take slices before batches."""
    leases = [lease for of_batch in batch_results for lease in of_batch.leases]
    batches = text(LOCK_BATCHES.format(for_update=sql.for_update)).bindparams(bindparam("batch_ids", expanding=True))
    connection.execute(batches, {"batch_ids": sorted({lease.batch_id for lease in leases})})
    slices = text(LOCK_SLICES.format(for_update=sql.for_update, in_numbers=sql.in_numbers))
    connection.execute(slices, {"numbers": comma_separated(lease.slice_id for lease in leases)})
