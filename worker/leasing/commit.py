"""The store: results, counters and slices close together in one fenced transaction.

Lock order: the batch's row first, then its slices by id. `seq` is drawn under the batch's lock, so commits happen in
`seq` order and a reader's cursor never misses a row.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from models.db import SqlFragments, comma_separated, insert_rows
from models.lifecycle import slices, termination
from models.lifecycle.termination import lock_batch
from models.states import AttemptOutcome, BatchStatus, JobOutcome, Termination
from worker.leasing.leases import Lease


@dataclass(frozen=True, slots=True)
class JobResult:
    """One job's outcome, ready to be written. `tokens`, `padded_tokens` and `seconds` are what it cost the device."""

    lease: Lease
    position: int
    status: JobOutcome
    output: str | None = None  # JSON
    error_code: str | None = None
    error_message: str | None = None
    truncated: bool = False
    tokens: int = 0
    padded_tokens: int = 0
    device_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RetryableFailure:
    """One job that failed of what may pass with time."""

    lease: Lease
    position: int
    error_code: str
    error_message: str


@dataclass(frozen=True, slots=True)
class DeferredSlice:
    """A slice that goes back to be tried again after `seconds`, for the sake of these jobs."""

    lease: Lease
    delay_seconds: float
    failures: tuple[RetryableFailure, ...]


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What a closing write did: rows written, slices that are ours no longer, what the batch ended as if it did."""

    results_written: int
    lost_slice_ids: frozenset[int]
    final_status: BatchStatus | None


INSERT_RETRIED_ATTEMPTS = """
INSERT INTO attempts (batch_id, slice_id, first, past, number, token, worker_id, ending, error_code, error_message,
                      claimed_at)
SELECT batch_id, id, :position, :position + 1, attempts, token, worker_id, :retried, :code, :message, leased_at
FROM slices WHERE {held}
"""

SELECT_ANSWERED_POSITIONS = "SELECT position FROM results WHERE batch_id = :batch_id AND position {in_numbers}"

UPDATE_COUNTERS = """
UPDATE batches SET last_seq = last_seq + :written, succeeded = succeeded + :succeeded, failed = failed + :failed,
       tokens = tokens + :tokens, padded_tokens = padded_tokens + :padded_tokens,
       device_seconds = device_seconds + :device_seconds
WHERE id = :batch_id
"""

SET_FINAL_STATUS = """
UPDATE batches SET status = :status, {status}_at = {now}, error_code = :code, error_message = :message
WHERE id = :batch_id
"""

RESULT_COLUMNS = (
    "batch_id",
    "position",
    "seq",
    "status",
    "output",
    "error_code",
    "error_message",
    "truncated",
    "attempts",
    "slice_id",
    "token",
    "model_version_id",
)


def commit_results(
    connection: Connection,
    sql: SqlFragments,
    results: Sequence[JobResult],
    leases: Collection[Lease],
    finished_slice_ids: Collection[int],
    version_id: int | None,
    *,
    deferred_slices: Sequence[DeferredSlice] = (),
    attempt_outcome: AttemptOutcome = AttemptOutcome.DONE,
    is_retry: bool = False,
) -> CommitResult:
    """Write one batch's answers under their fences.

    `leases` are the slices concerned, all of one batch; `finished` the ids of those that have no open job left after
    this (their attempts end `by`), and `put_off` those that go back to be tried later. `again` says that an earlier
    try may have been committed without our hearing of it. More failures than the batch allows end it.
    """
    batch_id = next(iter(leases)).batch_id
    batch = lock_batch(connection, sql, batch_id)
    if batch is None or batch.status != BatchStatus.IN_PROGRESS:
        return CommitResult(0, frozenset(lease.slice_id for lease in leases), final_status=None)
    answered = {answer.lease.slice_id for answer in results}
    lost = _fence_slices(
        connection, sql, leases, finished_slice_ids, answered, {one.lease.slice_id: one for one in deferred_slices}
    )
    if done := sorted(set(finished_slice_ids) - lost):
        slices.record_finished_attempts(connection, sql, batch_id, done, attempt_outcome)
    kept = [answer for answer in results if answer.lease.slice_id not in lost]
    if is_retry and kept:
        kept = _exclude_written(connection, sql, batch_id, kept)
    if kept:  # a COPY of nothing would take as long, with the batch's row locked
        insert_rows(connection, "results", RESULT_COLUMNS, _result_rows(kept, batch.last_seq, version_id))
    failed = _update_counters(connection, batch_id, kept)
    burned = batch.max_failures is not None and batch.failed + failed > batch.max_failures
    if batch.ended + len(kept) == batch.total and not batch.reading:
        ended = _set_final_status(connection, sql, batch_id, _failure_limit_message(batch, failed) if burned else None)
        return CommitResult(len(kept), lost, ended)
    if burned:
        termination.begin_termination(
            connection,
            sql,
            batch_id,
            Termination.FAILURE_LIMIT,
            termination.TOO_MANY_FAILURES,
            _failure_limit_message(batch, failed),
        )
        termination.close_chunk(connection, sql, batch_id)
        return CommitResult(len(kept), frozenset(lease.slice_id for lease in leases), BatchStatus.FAILED)
    return CommitResult(len(kept), lost, final_status=None)


def _fence_slices(
    connection: Connection,
    sql: SqlFragments,
    leases: Iterable[Lease],
    finished_slice_ids: Collection[int],
    answered_slice_ids: Collection[int],
    deferred_slices: Mapping[int, DeferredSlice],
) -> frozenset[int]:
    lost = set()
    for lease in sorted(leases, key=lambda lease: lease.slice_id):
        number = lease.slice_id
        if number in deferred_slices:
            _record_retried_attempts(connection, deferred_slices[number])
            holds = slices.defer(connection, sql, lease, deferred_slices[number].delay_seconds)
        else:
            holds = slices.check_and_finish(
                connection,
                sql,
                lease,
                is_finished=number in finished_slice_ids,
                has_results=number in answered_slice_ids,
            )
        if not holds:
            lost.add(number)
    return frozenset(lost)


def _record_retried_attempts(connection: Connection, deferred_slice: DeferredSlice) -> None:
    lease = deferred_slice.lease
    rows = [
        {
            **slices.fence_parameters(lease),
            "retried": AttemptOutcome.RETRIED.value,
            "position": deferral.position,
            "code": deferral.error_code,
            "message": deferral.error_message,
        }
        for deferral in deferred_slice.failures
    ]
    connection.execute(text(INSERT_RETRIED_ATTEMPTS.format(held=slices.CHECK_FENCE)), rows)


def _exclude_written(
    connection: Connection, sql: SqlFragments, batch_id: str, results: list[JobResult]
) -> list[JobResult]:
    positions = comma_separated(answer.position for answer in results)
    query = text(SELECT_ANSWERED_POSITIONS.format(in_numbers=sql.in_numbers))
    written = set(connection.scalars(query, {"batch_id": batch_id, "numbers": positions}))
    return [answer for answer in results if answer.position not in written]


def _result_rows(results: Sequence[JobResult], last_seq: int, version_id: int | None) -> Iterable[tuple[Any, ...]]:
    for seq, answer in enumerate(results, start=last_seq + 1):
        lease = answer.lease
        yield (
            lease.batch_id,
            answer.position,
            seq,
            answer.status.value,
            answer.output,
            answer.error_code,
            answer.error_message,
            answer.truncated,
            lease.attempts,
            lease.slice_id,
            lease.token,
            version_id,
        )


def _update_counters(connection: Connection, batch_id: str, results: Sequence[JobResult]) -> int:
    """Count the answers in; returns how many of them are failures."""
    outcomes = Counter(answer.status for answer in results)
    named = {
        "batch_id": batch_id,
        "written": len(results),
        "succeeded": outcomes[JobOutcome.SUCCEEDED],
        "failed": outcomes[JobOutcome.FAILED],
        "tokens": sum(answer.tokens for answer in results),
        "padded_tokens": sum(answer.padded_tokens for answer in results),
        "device_seconds": sum(answer.device_seconds for answer in results),
    }
    connection.execute(text(UPDATE_COUNTERS), named)
    return outcomes[JobOutcome.FAILED]


def _set_final_status(
    connection: Connection, sql: SqlFragments, batch_id: str, failure_message: str | None
) -> BatchStatus:
    status = BatchStatus.COMPLETED if failure_message is None else BatchStatus.FAILED
    named = {
        "batch_id": batch_id,
        "code": failure_message and termination.TOO_MANY_FAILURES,
        "message": failure_message,
        "status": status.value,
    }
    connection.execute(text(SET_FINAL_STATUS.format(status=status.value, now=sql.now)), named)
    return status


def _failure_limit_message(batch: Row[Any], new_failures: int) -> str:
    return f"{batch.failed + new_failures:,} jobs failed, more than the {batch.max_failures:,} that this batch allows"
