"""The store: results, counters and slices close together in one fenced transaction.

Lock order: the batch's row first, then its slices by id. `seq` is drawn under the batch's lock, so commits happen in
`seq` order and a reader's cursor never misses a row.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from models.db import Fragments, as_numbers, insert_rows
from models.lifecycle import slices, termination
from models.lifecycle.termination import lock_batch
from models.states import AttemptEnding, BatchStatus, Ending, Outcome
from worker.leasing.leases import Lease


@dataclass(frozen=True, slots=True)
class Answer:
    """One job's outcome, ready to be written. `tokens`, `padded_tokens` and `seconds` are what it cost the device."""

    lease: Lease
    position: int
    status: Outcome
    output: str | None = None  # JSON
    error_code: str | None = None
    error_message: str | None = None
    truncated: bool = False
    tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Deferral:
    """One job that failed of what may pass with time."""

    lease: Lease
    position: int
    error_code: str
    error_message: str


@dataclass(frozen=True, slots=True)
class PutOff:
    """A slice that goes back to be tried again after `seconds`, for the sake of these jobs."""

    lease: Lease
    seconds: float
    deferrals: tuple[Deferral, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """What a closing write did: rows written, slices that are ours no longer, what the batch ended as if it did."""

    written: int
    lost: frozenset[int]
    ended: BatchStatus | None


NOTE_RETRIED = """
INSERT INTO attempts (batch_id, slice_id, first, past, number, token, worker_id, ending, error_code, error_message,
                      claimed_at)
SELECT batch_id, id, :position, :position + 1, attempts, token, worker_id, :retried, :code, :message, leased_at
FROM slices WHERE {held}
"""

WRITTEN = "SELECT position FROM results WHERE batch_id = :batch_id AND position {in_numbers}"

PROGRESS = """
UPDATE batches SET last_seq = last_seq + :written, succeeded = succeeded + :succeeded, failed = failed + :failed,
       tokens = tokens + :tokens, padded_tokens = padded_tokens + :padded_tokens,
       device_seconds = device_seconds + :device_seconds
WHERE id = :batch_id
"""

END = """
UPDATE batches SET status = :status, {status}_at = {now}, error_code = :code, error_message = :message
WHERE id = :batch_id
"""

COLUMNS = (
    "batch_id", "position", "seq", "status", "output", "error_code", "error_message", "truncated", "attempts",
    "slice_id", "token", "model_version_id",
)  # fmt: skip


def close(
    connection: Connection, sql: Fragments, answers: Sequence[Answer], leases: Collection[Lease],
    finished: Collection[int], version_id: int | None, *, put_off: Sequence[PutOff] = (),
    by: AttemptEnding = AttemptEnding.DONE, again: bool = False,
) -> Closed:  # fmt: skip
    """Write one batch's answers under their fences.

    `leases` are the slices concerned, all of one batch; `finished` the ids of those that have no open job left after
    this (their attempts end `by`), and `put_off` those that go back to be tried later. `again` says that an earlier
    try may have been committed without our hearing of it. More failures than the batch allows end it.
    """
    batch_id = next(iter(leases)).batch_id
    batch = lock_batch(connection, sql, batch_id)
    if batch is None or batch.status != BatchStatus.IN_PROGRESS:
        return Closed(0, frozenset(lease.slice_id for lease in leases), ended=None)
    answered = {answer.lease.slice_id for answer in answers}
    lost = _fence(connection, sql, leases, finished, answered, {one.lease.slice_id: one for one in put_off})
    if done := sorted(set(finished) - lost):
        slices.note_done(connection, sql, batch_id, done, by)
    kept = [answer for answer in answers if answer.lease.slice_id not in lost]
    if again and kept:
        kept = _unwritten(connection, sql, batch_id, kept)
    if kept:  # a COPY of nothing would take as long, with the batch's row locked
        insert_rows(connection, "results", COLUMNS, _rows(kept, batch.last_seq, version_id))
    failed = _progress(connection, batch_id, kept)
    burned = batch.max_failures is not None and batch.failed + failed > batch.max_failures
    if batch.ended + len(kept) == batch.total and not batch.reading:
        ended = _end(connection, sql, batch_id, _burned(batch, failed) if burned else None)
        return Closed(len(kept), lost, ended)
    if burned:
        termination.begin(connection, sql, batch_id, Ending.BURNED, termination.TOO_MANY, _burned(batch, failed))
        termination.close_some(connection, sql, batch_id)
        return Closed(len(kept), frozenset(lease.slice_id for lease in leases), BatchStatus.FAILED)
    return Closed(len(kept), lost, ended=None)


def _fence(
    connection: Connection, sql: Fragments, leases: Iterable[Lease], finished: Collection[int],
    answered: Collection[int], put_off: Mapping[int, PutOff],
) -> frozenset[int]:  # fmt: skip
    lost = set()
    for lease in sorted(leases, key=lambda lease: lease.slice_id):
        number = lease.slice_id
        if number in put_off:
            _note_retried(connection, put_off[number])
            holds = slices.put_off(connection, sql, lease, put_off[number].seconds)
        else:
            holds = slices.write(connection, sql, lease, finished=number in finished, answered=number in answered)
        if not holds:
            lost.add(number)
    return frozenset(lost)


def _note_retried(connection: Connection, put_off: PutOff) -> None:
    lease = put_off.lease
    rows = [
        {
            **slices.fence(lease), "retried": AttemptEnding.RETRIED.value, "position": deferral.position,
            "code": deferral.error_code, "message": deferral.error_message,
        }
        for deferral in put_off.deferrals
    ]  # fmt: skip
    connection.execute(text(NOTE_RETRIED.format(held=slices.HELD)), rows)


def _unwritten(connection: Connection, sql: Fragments, batch_id: str, answers: list[Answer]) -> list[Answer]:
    positions = as_numbers(answer.position for answer in answers)
    query = text(WRITTEN.format(in_numbers=sql.in_numbers))
    written = set(connection.scalars(query, {"batch_id": batch_id, "numbers": positions}))
    return [answer for answer in answers if answer.position not in written]


def _rows(answers: Sequence[Answer], last_seq: int, version_id: int | None) -> Iterable[tuple[Any, ...]]:
    for seq, answer in enumerate(answers, start=last_seq + 1):
        lease = answer.lease
        yield (
            lease.batch_id, answer.position, seq, answer.status.value, answer.output, answer.error_code,
            answer.error_message, answer.truncated, lease.attempts, lease.slice_id, lease.token, version_id,
        )  # fmt: skip


def _progress(connection: Connection, batch_id: str, answers: Sequence[Answer]) -> int:
    """Count the answers in; returns how many of them are failures."""
    outcomes = Counter(answer.status for answer in answers)
    named = {
        "batch_id": batch_id,
        "written": len(answers),
        "succeeded": outcomes[Outcome.SUCCEEDED],
        "failed": outcomes[Outcome.FAILED],
        "tokens": sum(answer.tokens for answer in answers),
        "padded_tokens": sum(answer.padded_tokens for answer in answers),
        "device_seconds": sum(answer.seconds for answer in answers),
    }
    connection.execute(text(PROGRESS), named)
    return outcomes[Outcome.FAILED]


def _end(connection: Connection, sql: Fragments, batch_id: str, burned: str | None) -> BatchStatus:
    status = BatchStatus.COMPLETED if burned is None else BatchStatus.FAILED
    named = {"batch_id": batch_id, "code": burned and termination.TOO_MANY, "message": burned, "status": status.value}
    connection.execute(text(END.format(status=status.value, now=sql.now)), named)
    return status


def _burned(batch: Row[Any], failed: int) -> str:
    return f"{batch.failed + failed:,} jobs failed, more than the {batch.max_failures:,} that this batch allows"
