"""A commit writes results, counters and slices in one fenced transaction.

Lock order: the batch's row first, then its slices by id. `seq` is drawn under the batch's lock, so commits happen in
`seq` order and a reader's cursor never misses a row.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, text

from models.dialects.bulk_insert import insert_rows
from models.dialects.fragments import SQL_FRAGMENTS, SqlFragments, comma_separated
from models.guards.verdict import Verdict, verdicts_json
from models.lifecycle import guard_counters, slices, termination
from models.lifecycle.termination import lock_batch
from models.states import AttemptOutcome, BatchStatus, JobOutcome
from worker.leasing import redacted_inputs
from worker.leasing.job_results import BatchCommit, CommitResult, DeferredSlice, JobResult
from worker.leasing.usage import ComputedWork

INSERT_RETRIED_ATTEMPTS = """
INSERT INTO attempts (batch_id, slice_id, start_position, end_position, attempt, fencing_token, worker_id, outcome,
                      error_code, error_message, claimed_at)
SELECT batch_id, id, :position, :position + 1, attempts, fencing_token, worker_id, :retried, :code, :message, leased_at
FROM slices WHERE {held}
"""

SELECT_ANSWERED_POSITIONS = "SELECT position FROM results WHERE batch_id = :batch_id AND position {in_numbers}"

UPDATE_COUNTERS = f"""
UPDATE batches SET last_seq = last_seq + :written, succeeded = succeeded + :succeeded, failed = failed + :failed,
       tokens = tokens + :tokens, padded_tokens = padded_tokens + :padded_tokens,
       device_seconds = device_seconds + :device_seconds, guarded = guarded OR :guarded,
       guarded_seq = last_seq + :written
WHERE id = :batch_id
RETURNING {termination.PROGRESS_COLUMNS}
"""  # noqa: S608

RESULT_COLUMNS = {  # with their types on PostgreSQL
    "batch_id": "text",
    "position": "int8",
    "seq": "int8",
    "status": "text",
    "output": "jsonb",
    "error_code": "text",
    "error_message": "text",
    "truncated": "bool",
    "attempts": "int4",
    "slice_id": "int8",
    "fencing_token": "int8",
    "model_version_id": "int8",
    "windows": "int4",
    "guards": "jsonb",
    "vector": "float4[]",
    "input_tokens": "int4",
}
TEXT_COLUMNS = {
    "output_tokens": "int4",
    "finish_reason": "text",
}  # of generated texts alone: two more take 0.6 µs a row


STATUS_TEXTS = {status: status.value for status in JobOutcome}  # `value` is a property that takes longer to read


def commit_results(connection: Connection, planned: BatchCommit, *, is_retry: bool = False) -> CommitResult:
    """Write one batch's results under their fencing tokens; more failures than the batch allows end it.

    is_retry: an earlier call may have committed although its connection broke.
    """
    sql, leases = SQL_FRAGMENTS[connection.dialect.name], planned.leases
    batch_id = leases[0].batch_id
    batch = lock_batch(connection, sql, batch_id)
    if batch is None or batch.status != BatchStatus.IN_PROGRESS:
        return CommitResult(0, frozenset(lease.slice_id for lease in leases), final_status=None)
    lost = _fence_slices(connection, sql, planned)
    if finished := sorted(set(planned.finished_slice_ids) - lost):
        slices.record_finished_attempts(connection, sql, batch_id, finished, planned.attempt_outcome)
    accepted = [result for result in planned.results if result.lease.slice_id not in lost]
    if is_retry and accepted:
        accepted = _exclude_written(connection, sql, batch_id, accepted)
    if accepted:  # an empty COPY would take as long, with the batch's row locked
        _insert_results(connection, accepted, batch.last_seq, planned.version_id)
        if planned.guards:
            redacted_inputs.store_inputs(connection, sql, batch_id, accepted)
            guard_counters.add_verdicts(
                connection,
                batch_id,
                planned.guards,
                (result.verdicts for result in accepted),
                (result.guard_seconds for result in accepted),
            )
    work = _sum_work(batch, accepted)
    progress = _update_counters(connection, batch_id, work, is_guarded=bool(accepted and planned.guards))
    final_status = termination.end_if_done(connection, sql, batch_id, progress)
    is_terminated = final_status is not None and progress.ended < progress.total  # which revokes all slices
    lost = frozenset(lease.slice_id for lease in leases) if is_terminated else lost
    return CommitResult(len(accepted), lost, final_status, _add_guard_time(work, accepted) if accepted else None)


def _fence_slices(connection: Connection, sql: SqlFragments, planned: BatchCommit) -> frozenset[int]:
    """Defer, finish or check each slice under its fencing token; returns the ids of the lost ones."""
    answered_ids = {result.lease.slice_id for result in planned.results}
    deferred_slices = {deferred.lease.slice_id: deferred for deferred in planned.deferred_slices}
    lost = set()
    for lease in sorted(planned.leases, key=lambda lease: lease.slice_id):
        slice_id = lease.slice_id
        if deferred := deferred_slices.get(slice_id):
            _record_retried_attempts(connection, deferred)
            is_held = slices.defer(connection, sql, lease, deferred.delay_seconds)
        else:
            is_finished, has_results = slice_id in planned.finished_slice_ids, slice_id in answered_ids
            is_held = slices.check_and_finish(connection, sql, lease, is_finished=is_finished, has_results=has_results)
        if not is_held:
            lost.add(slice_id)
    return frozenset(lost)


def _record_retried_attempts(connection: Connection, deferred_slice: DeferredSlice) -> None:
    lease = deferred_slice.lease
    rows = [
        {
            **slices.fence_parameters(lease),
            "retried": AttemptOutcome.RETRIED.value,
            "position": failure.position,
            "code": failure.error_code,
            "message": failure.error_message,
        }
        for failure in deferred_slice.failures
    ]
    connection.execute(text(INSERT_RETRIED_ATTEMPTS.format(held=slices.CHECK_FENCE)), rows)


def _exclude_written(
    connection: Connection, sql: SqlFragments, batch_id: str, results: list[JobResult]
) -> list[JobResult]:
    positions = comma_separated(result.position for result in results)
    query = text(SELECT_ANSWERED_POSITIONS.format(in_numbers=sql.in_numbers))
    written = set(connection.scalars(query, {"batch_id": batch_id, "numbers": positions}))
    return [result for result in results if result.position not in written]


def _insert_results(
    connection: Connection, results: Sequence[JobResult], last_seq: int, version_id: int | None
) -> None:
    columns, rows = RESULT_COLUMNS, _result_rows(results, last_seq, version_id)
    if any(result.output_tokens is not None for result in results):
        columns = RESULT_COLUMNS | TEXT_COLUMNS
        ends = [(result.output_tokens, result.finish_reason) for result in results]
        rows = (row + end for row, end in zip(rows, ends, strict=True))
    insert_rows(connection, "results", tuple(columns), rows, tuple(columns.values()))


def _result_rows(results: Sequence[JobResult], last_seq: int, version_id: int | None) -> Iterable[tuple[Any, ...]]:
    for seq, result in enumerate(results, start=last_seq + 1):
        lease = result.lease
        yield (
            lease.batch_id,
            result.position,
            seq,
            STATUS_TEXTS[result.status],
            result.output,
            result.error_code,
            result.error_message,
            result.truncated,
            lease.attempts,
            lease.slice_id,
            lease.fencing_token,
            version_id,
            result.windows,
            _to_json(tuple(result.verdicts)) if result.verdicts else None,
            result.vector,
            result.input_tokens,
        )


@lru_cache(maxsize=1024)
def _to_json(verdicts: tuple[Verdict, ...]) -> str | None:
    """The verdicts of most rows are equal: every guard passed them."""
    return verdicts_json(verdicts)


def _sum_work(batch: Row[Any], results: Sequence[JobResult]) -> ComputedWork:
    """Sum what results are and cost, without the time of guards."""
    outcomes = [result.status for result in results]
    succeeded = outcomes.count(JobOutcome.SUCCEEDED)
    return ComputedWork(
        batch.tenant,
        batch.pipeline,
        succeeded,
        outcomes.count(JobOutcome.FAILED),
        sum([result.tokens for result in results]),
        sum([result.padded_tokens for result in results]),
        sum([result.device_seconds for result in results]),
        _count_codes(results) if len(results) > succeeded else (),
    )


def _count_codes(results: Sequence[JobResult]) -> tuple[tuple[str, int], ...]:
    codes = Counter(result.error_code or "" for result in results if result.status is JobOutcome.FAILED)
    return tuple(codes.items())


def _add_guard_time(work: ComputedWork, results: Sequence[JobResult]) -> ComputedWork:
    seconds = sum([sum(result.guard_seconds.values()) for result in results if result.guard_seconds])
    return replace(work, device_seconds=work.device_seconds + seconds) if seconds else work


def _update_counters(connection: Connection, batch_id: str, work: ComputedWork, *, is_guarded: bool) -> Row[Any]:
    """Add the results to the batch's counters; returns the new ones, as `end_if_done` needs them."""
    params = {
        "batch_id": batch_id,
        "written": work.succeeded + work.failed,
        "succeeded": work.succeeded,
        "failed": work.failed,
        "tokens": work.tokens,
        "padded_tokens": work.padded_tokens,
        "device_seconds": work.device_seconds,
        "guarded": is_guarded,
    }
    return connection.execute(text(UPDATE_COUNTERS), params).one()
