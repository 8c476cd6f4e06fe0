"""Statements that change a slice after it was claimed.

Each write names the batch, the slice, its fencing token and its state. Zero updated rows mean that the slice is lost:
another worker has it, or the batch has ended. The holder then drops its work.

Lock order, wherever a batch's state changes: the batch's row first, then its slices by id. A holder that renews or
releases leases locks no batch row, and locks its slices by id too, so that deadlocks cannot occur.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Row, TextClause, text

from models.dialects.bulk_insert import insert_rows
from models.dialects.fragments import SqlFragments, comma_separated
from models.states import AttemptOutcome, SliceState

INSERT_COLUMNS = ("batch_id", "start_position", "size", "state")

# A fencing token is used for one claim only, and neither database reuses a slice's id.
CHECK_FENCE = "batch_id = :batch_id AND id = :slice_id AND fencing_token = :fencing_token AND state = 'leased'"
LEASED_OF_BATCH = "batch_id = :batch_id AND state = 'leased'"

# An expired lease still belongs to its holder until the slice is claimed again, which changes the fencing token. Rows
# that the holder's write thread has locked are skipped: they are safe, and the other leases need not wait for them.
RENEW_LEASE = """
UPDATE slices SET lease_expires_at = {later} WHERE id = (SELECT id FROM slices WHERE {held} {skip_locked})
"""

# The write thread may have finished a slice, or be about to, while the heartbeat still counts it as held.
CHECK_STILL_HELD = """
SELECT 1 FROM slices
WHERE batch_id = :batch_id AND id = :slice_id AND fencing_token = :fencing_token AND state IN ('leased', 'done')
"""

# A slice that is released in good order does not count the claim as an attempt.
RELEASE_SLICE = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, attempts = attempts - 1 WHERE {held}
"""

# An unfinished slice is only locked here, so that it cannot be claimed meanwhile.
CHECK_AND_FINISH_SLICE = """
UPDATE slices SET state = CASE WHEN :finished THEN 'done' ELSE state END,
       done_at = CASE WHEN :finished THEN {now} END,
       lost_leases = CASE WHEN :answered THEN 0 ELSE lost_leases END
WHERE {held}
"""

DEFER_SLICE = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, available_at = {later},
       retries = retries + 1, lost_leases = 0
WHERE {held}
"""

REQUEUE_SLICE = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, crashes = :crashes,
       lost_leases = :lost_leases
WHERE {held}
"""

# The new fencing token makes the slice lost, not done, for a holder that resumes later.
RETIRE_SLICE = "UPDATE slices SET state = 'done', fencing_token = fencing_token + 1, done_at = {now} WHERE {held}"

# Of a job `j`. Its state is derived from this alone.
IS_UNANSWERED = "NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position)"

INSERT_SINGLE_JOB_SLICES = f"""
INSERT INTO slices (batch_id, start_position, size, state, attempts, crashes, lost_leases, retries, leased_at)
SELECT j.batch_id, j.position, 1, 'queued', :attempts, :crashes, :lost_leases, :retries,
       (SELECT s.leased_at FROM slices s WHERE s.id = :slice_id)
FROM jobs j
WHERE j.batch_id = :batch_id AND j.position >= :start_position AND j.position < :end_position
  AND {IS_UNANSWERED}
ORDER BY j.position
"""  # noqa: S608

# Rows that a holder is renewing are skipped, because that holder is still running.
LOCK_LEASED_SLICES = """
SELECT id AS slice_id, batch_id, start_position, size, fencing_token, attempts, crashes, lost_leases, retries
FROM slices WHERE batch_id = :batch_id AND {which} ORDER BY id {skip_locked}
"""

LOCK_OPEN_SLICES = "SELECT id FROM slices WHERE batch_id = :batch_id AND state <> 'done' ORDER BY id {for_update}"

# The new fencing tokens revoke every lease, so results that are still being computed are rejected.
END_OPEN_SLICES = """
UPDATE slices SET state = 'done', fencing_token = fencing_token + 1, done_at = {now}
WHERE batch_id = :batch_id AND state <> 'done'
"""

SELECT_BATCHES_WITH_FUTURE_TIMES = (
    "SELECT DISTINCT batch_id FROM slices WHERE state = '{state}' AND {column} > {bound} ORDER BY batch_id"
)

# For a database clock that was set back. Rows that a holder is renewing get the new time anyway and are skipped.
RESET_FUTURE_TIMES = """
UPDATE slices SET {column} = {moment} WHERE batch_id = :batch_id AND id IN (
    SELECT id FROM slices
    WHERE batch_id = :batch_id AND state = '{state}' AND {column} > {bound} ORDER BY id {skip_locked})
"""


@dataclass(frozen=True, slots=True)
class FutureTimeRule:
    """The limit for times in the future in one column of `slices`, for slices in one state.

    state: the state of the slices
    column: the column that holds the time
    max_ahead_seconds: how far in the future a time may be
    reset_to_seconds: how far in the future a later time is reset to
    """

    state: str
    column: str
    max_ahead_seconds: float
    reset_to_seconds: float


class SliceClaim(Protocol):
    """Anything that identifies a claim of a slice, such as a worker's lease or the slice's locked row."""

    @property
    def batch_id(self) -> str: ...
    @property
    def slice_id(self) -> int: ...
    @property
    def fencing_token(self) -> int: ...


def fence_parameters(claim: SliceClaim) -> dict[str, Any]:
    """The parameters of CHECK_FENCE."""
    return {"batch_id": claim.batch_id, "slice_id": claim.slice_id, "fencing_token": claim.fencing_token}


def insert_slices(connection: Connection, batch_id: str, ranges: Iterable[tuple[int, int]]) -> int:
    """Add slices, given as `(start_position, size)`, to a batch whose row is locked; returns their number."""
    rows = [(batch_id, *positions, SliceState.QUEUED.value) for positions in ranges]
    insert_rows(connection, "slices", INSERT_COLUMNS, rows)
    return len(rows)


def renew_lease(connection: Connection, sql: SqlFragments, claim: SliceClaim, lease_seconds: float) -> bool:
    """Renew a lease; False if it is lost, True if its holder has already finished the slice."""
    renewed = connection.execute(
        _format_statement(RENEW_LEASE, sql), {**fence_parameters(claim), "seconds": lease_seconds}
    ).rowcount
    return renewed == 1 or connection.scalar(text(CHECK_STILL_HELD), fence_parameters(claim)) is not None


def release(connection: Connection, claim: SliceClaim) -> bool:
    """Return a slice to the queue in good order; False if it is lost."""
    record_attempt_outcome(connection, CHECK_FENCE, fence_parameters(claim), AttemptOutcome.RELEASED)
    return connection.execute(text(RELEASE_SLICE.format(held=CHECK_FENCE)), fence_parameters(claim)).rowcount == 1


def check_and_finish(
    connection: Connection, sql: SqlFragments, claim: SliceClaim, *, is_finished: bool, has_results: bool
) -> bool:
    """Lock a slice for the results that are being written; False if it is lost.

    is_finished: whether the slice is done with these results
    has_results: whether there are any, which resets its count of lost leases
    """
    params = {**fence_parameters(claim), "finished": is_finished, "answered": has_results}
    return connection.execute(_format_statement(CHECK_AND_FINISH_SLICE, sql), params).rowcount == 1


def defer(connection: Connection, sql: SqlFragments, claim: SliceClaim, delay_seconds: float) -> bool:
    """Requeue a slice for `delay_seconds` from now; False if it is lost."""
    return (
        connection.execute(
            _format_statement(DEFER_SLICE, sql), {**fence_parameters(claim), "seconds": delay_seconds}
        ).rowcount
        == 1
    )


def lock_leased(
    connection: Connection, sql: SqlFragments, batch_id: str, condition: str, params: dict[str, Any]
) -> Sequence[Row[Any]]:
    """Lock the leased slices that match `condition`, in a batch whose row is locked."""
    query = text(LOCK_LEASED_SLICES.format(which=condition, skip_locked=sql.skip_locked))
    return connection.execute(query, {**params, "batch_id": batch_id}).all()


def requeue(connection: Connection, row: Row[Any], outcome: AttemptOutcome, *, crashes: int, lost_leases: int) -> bool:
    """Requeue a locked slice and record the outcome of its claim; False if it is lost."""
    record_attempt_outcome(connection, CHECK_FENCE, fence_parameters(row), outcome)
    params = {**fence_parameters(row), "crashes": crashes, "lost_leases": lost_leases}
    return connection.execute(text(REQUEUE_SLICE.format(held=CHECK_FENCE)), params).rowcount == 1


def split(
    connection: Connection, sql: SqlFragments, row: Row[Any], outcome: AttemptOutcome, *, crashes: int, lost_leases: int
) -> bool:
    """Replace a locked slice with one slice per unanswered job and record its claim's outcome; False if it is lost."""
    record_attempt_outcome(connection, CHECK_FENCE, fence_parameters(row), outcome)
    if connection.execute(_format_statement(RETIRE_SLICE, sql), fence_parameters(row)).rowcount == 0:
        return False
    params = {
        "batch_id": row.batch_id,
        "start_position": row.start_position,
        "end_position": row.start_position + row.size,
        "attempts": row.attempts,
        "crashes": crashes,
        "lost_leases": lost_leases,
        "retries": row.retries,
        "slice_id": row.slice_id,
    }
    connection.execute(text(INSERT_SINGLE_JOB_SLICES), params)
    return True


def end_open_slices(connection: Connection, sql: SqlFragments, batch_id: str, error_code: str | None) -> None:
    """Revoke all open slices of a batch whose row is locked, by new fencing tokens."""
    params = {"batch_id": batch_id}
    connection.execute(text(LOCK_OPEN_SLICES.format(for_update=sql.for_update)), params).all()
    record_attempt_outcome(connection, LEASED_OF_BATCH, params, AttemptOutcome.BATCH_ENDED, error_code)
    connection.execute(text(END_OPEN_SLICES.format(now=sql.now)), params)


def record_finished_attempts(
    connection: Connection, sql: SqlFragments, batch_id: str, slice_ids: Collection[int], outcome: AttemptOutcome
) -> None:
    """Record the outcome of the claims of slices that the same transaction has finished."""
    which = f"batch_id = :batch_id AND id {sql.in_numbers}"
    record_attempt_outcome(connection, which, {"batch_id": batch_id, "numbers": comma_separated(slice_ids)}, outcome)


def batches_with_future_times(connection: Connection, sql: SqlFragments, rule: FutureTimeRule) -> Sequence[str]:
    """The ids of batches with slices whose times are too far in the future."""
    return connection.scalars(text(_format_rule(SELECT_BATCHES_WITH_FUTURE_TIMES, sql, rule))).all()


def reset_future_times(connection: Connection, sql: SqlFragments, batch_id: str, rule: FutureTimeRule) -> int:
    """Reset such times in a batch whose row is locked, and return the number of slices changed."""
    return connection.execute(text(_format_rule(RESET_FUTURE_TIMES, sql, rule)), {"batch_id": batch_id}).rowcount


def _format_rule(statement: str, sql: SqlFragments, rule: FutureTimeRule) -> str:
    return statement.format(
        state=rule.state,
        column=rule.column,
        bound=sql.seconds_from_now(rule.max_ahead_seconds),
        moment=sql.seconds_from_now(rule.reset_to_seconds),
        skip_locked=sql.skip_locked,
    )


def _format_statement(statement: str, sql: SqlFragments) -> TextClause:
    return text(
        statement.format(held=CHECK_FENCE, now=sql.now, later=sql.now_plus_seconds, skip_locked=sql.skip_locked)
    )


INSERT_ATTEMPT = """
INSERT INTO attempts (batch_id, slice_id, start_position, end_position, attempt, fencing_token, worker_id, outcome,
                      error_code, claimed_at)
SELECT batch_id, id, start_position, start_position + size, attempts, fencing_token, worker_id, :outcome,
       :code, leased_at
FROM slices WHERE {which}
"""


def record_attempt_outcome(
    connection: Connection,
    condition: str,
    params: dict[str, Any],
    outcome: AttemptOutcome,
    error_code: str | None = None,
) -> None:
    """Record the outcome of the claims of the slices that match `condition`, which uses the names in `params`."""
    connection.execute(
        text(INSERT_ATTEMPT.format(which=condition)), {**params, "outcome": outcome.value, "code": error_code}
    )
