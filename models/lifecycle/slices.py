"""Slices: every statement that changes one after it was claimed, and what such a write must name.

A write names the batch, the slice, its fencing token and its state. Zero rows mean that the slice is lost: somebody
else has it, or the batch has ended, and the work on it is dropped.

Lock order, wherever a batch's state changes: the batch's row first, then its slices by id. A holder that renews or
releases takes no batch's row, and its slices by id too, so that two never wait for each other.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Row, TextClause, text

from models.db import SqlFragments, comma_separated, insert_rows
from models.states import AttemptOutcome, SliceState

INSERT_COLUMNS = ("batch_id", "first", "size", "state")

# The fence. A token is given out once, and on both databases no id is given out twice.
CHECK_FENCE = "batch_id = :batch_id AND id = :slice_id AND token = :token AND state = 'leased'"
LEASED_OF_BATCH = "batch_id = :batch_id AND state = 'leased'"

# A lease that ran out unnoticed is still the holder's until somebody takes it: the token tells. Skips what its own
# holder is writing at the moment: nobody can take that, and all other leases would wait for the end of the write.
RENEW_LEASE = """
UPDATE slices SET lease_expires_at = {later} WHERE id = (SELECT id FROM slices WHERE {held} {skip_locked})
"""

# The write thread may close a slice, or be about to, while the heartbeat still believes it held.
CHECK_STILL_HELD = """
SELECT 1 FROM slices
WHERE batch_id = :batch_id AND id = :slice_id AND token = :token AND state IN ('leased', 'done')
"""

# Given back in good order: the claim does not count as an attempt.
RELEASE_SLICE = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, attempts = attempts - 1 WHERE {held}
"""

# A finished slice ends here; an unfinished one is only locked against a new claim.
CHECK_AND_FINISH_SLICE = """
UPDATE slices SET state = CASE WHEN :finished THEN 'done' ELSE state END,
       done_at = CASE WHEN :finished THEN {now} END,
       lapses = CASE WHEN :answered THEN 0 ELSE lapses END
WHERE {held}
"""

DEFER_SLICE = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, not_before = {later},
       retries = retries + 1, lapses = 0
WHERE {held}
"""

REQUEUE_SLICE = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, deaths = :deaths, lapses = :lapses
WHERE {held}
"""

# Under a new token: to its holder, should that one wake, the slice is lost and not closed.
RETIRE_SLICE = "UPDATE slices SET state = 'done', token = token + 1, done_at = {now} WHERE {held}"

INSERT_SINGLE_JOB_SLICES = """
INSERT INTO slices (batch_id, first, size, state, attempts, deaths, lapses, retries, leased_at)
SELECT j.batch_id, j.position, 1, 'queued', :attempts, :deaths, :lapses, :retries,
       (SELECT s.leased_at FROM slices s WHERE s.id = :slice_id)
FROM jobs j
WHERE j.batch_id = :batch_id AND j.position >= :first AND j.position < :past
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position)
ORDER BY j.position
"""

# Skips a row that its holder is just renewing: that holder is alive.
LOCK_LEASED_SLICES = """
SELECT id AS slice_id, batch_id, first, size, token, attempts, deaths, lapses, retries FROM slices
WHERE batch_id = :batch_id AND {which} ORDER BY id {skip_locked}
"""

LOCK_OPEN_SLICES = "SELECT id FROM slices WHERE batch_id = :batch_id AND state <> 'done' ORDER BY id {for_update}"

# Whoever computes for the batch has lost.
END_OPEN_SLICES = """
UPDATE slices SET state = 'done', token = token + 1, done_at = {now} WHERE batch_id = :batch_id AND state <> 'done'
"""

SELECT_QUEUED_SLICES = "SELECT id FROM slices WHERE batch_id = :batch_id AND state = 'queued' ORDER BY first"

SELECT_BATCHES_WITH_FUTURE_TIMES = (
    "SELECT DISTINCT batch_id FROM slices WHERE state = '{state}' AND {column} > {bound} ORDER BY batch_id"
)

# After a step of the database's clock. Skips rows that their holders are just renewing, by the new time.
RESET_FUTURE_TIMES = """
UPDATE slices SET {column} = {moment} WHERE batch_id = :batch_id AND id IN (
    SELECT id FROM slices
    WHERE batch_id = :batch_id AND state = '{state}' AND {column} > {bound} ORDER BY id {skip_locked})
"""


@dataclass(frozen=True, slots=True)
class FutureTimeRule:
    """A column of slices in one state: how many seconds ahead its moments may lie, and where others are put."""

    state: str
    column: str
    max_ahead_seconds: float
    reset_to_seconds: float


class SliceClaim(Protocol):
    """What names a claim of a slice: a worker's lease, or the slice's row as it was locked."""

    @property
    def batch_id(self) -> str: ...
    @property
    def slice_id(self) -> int: ...
    @property
    def token(self) -> int: ...


def fence_parameters(claim: SliceClaim) -> dict[str, Any]:
    """The parameters of HELD."""
    return {"batch_id": claim.batch_id, "slice_id": claim.slice_id, "token": claim.token}


def insert_slices(connection: Connection, batch_id: str, ranges: Iterable[tuple[int, int]]) -> None:
    """Add slices, by `(first, size)`, to a batch whose row is locked."""
    insert_rows(connection, "slices", INSERT_COLUMNS, ((batch_id, *piece, SliceState.QUEUED.value) for piece in ranges))


def queued_slice_ids(connection: Connection, batch_id: str, max_slices: int | None = None) -> Sequence[int]:
    """The ids of the slices that nobody has claimed, or of so many, in the order of their jobs."""
    limit = "" if max_slices is None else f" LIMIT {max_slices}"
    return connection.scalars(text(SELECT_QUEUED_SLICES + limit), {"batch_id": batch_id}).all()


def renew_lease(connection: Connection, sql: SqlFragments, claim: SliceClaim, lease_seconds: float) -> bool:
    """Prolong a lease; False where it is lost, but not where its holder closes or closed it."""
    renewed = connection.execute(
        _format_statement(RENEW_LEASE, sql), {**fence_parameters(claim), "seconds": lease_seconds}
    ).rowcount
    return renewed == 1 or connection.scalar(text(CHECK_STILL_HELD), fence_parameters(claim)) is not None


def release(connection: Connection, claim: SliceClaim) -> bool:
    """Give a slice back in good order; False where it is lost."""
    record_attempt_outcome(connection, CHECK_FENCE, fence_parameters(claim), AttemptOutcome.RELEASED)
    return connection.execute(text(RELEASE_SLICE.format(held=CHECK_FENCE)), fence_parameters(claim)).rowcount == 1


def check_and_finish(
    connection: Connection, sql: SqlFragments, claim: SliceClaim, *, is_finished: bool, has_results: bool
) -> bool:
    """Fence a slice of which results are written, and end it where it is finished; False where it is lost."""
    named = {**fence_parameters(claim), "finished": is_finished, "answered": has_results}
    return connection.execute(_format_statement(CHECK_AND_FINISH_SLICE, sql), named).rowcount == 1


def defer(connection: Connection, sql: SqlFragments, claim: SliceClaim, delay_seconds: float) -> bool:
    """Queue a slice again for later; False where it is lost."""
    return (
        connection.execute(
            _format_statement(DEFER_SLICE, sql), {**fence_parameters(claim), "seconds": delay_seconds}
        ).rowcount
        == 1
    )


def lock_leased(
    connection: Connection, sql: SqlFragments, batch_id: str, condition: str, params: dict[str, Any]
) -> Sequence[Row[Any]]:
    """Lock those leased slices of a batch, whose row is locked, that the condition `which` finds."""
    query = text(LOCK_LEASED_SLICES.format(which=condition, skip_locked=sql.skip_locked))
    return connection.execute(query, {**params, "batch_id": batch_id}).all()


def requeue(connection: Connection, row: Row[Any], outcome: AttemptOutcome, *, crashes: int, lost_leases: int) -> bool:
    """Queue a locked slice again, whose claim ended so; False where it is lost."""
    record_attempt_outcome(connection, CHECK_FENCE, fence_parameters(row), outcome)
    named = {**fence_parameters(row), "deaths": crashes, "lapses": lost_leases}
    return connection.execute(text(REQUEUE_SLICE.format(held=CHECK_FENCE)), named).rowcount == 1


def split(
    connection: Connection, sql: SqlFragments, row: Row[Any], outcome: AttemptOutcome, *, crashes: int, lost_leases: int
) -> bool:
    """Replace a locked slice, whose claim ended so, by one for each open job; False where it is lost."""
    record_attempt_outcome(connection, CHECK_FENCE, fence_parameters(row), outcome)
    if connection.execute(_format_statement(RETIRE_SLICE, sql), fence_parameters(row)).rowcount == 0:
        return False
    named = {
        "batch_id": row.batch_id,
        "first": row.first,
        "past": row.first + row.size,
        "attempts": row.attempts,
        "deaths": crashes,
        "lapses": lost_leases,
        "retries": row.retries,
        "slice_id": row.slice_id,
    }
    connection.execute(text(INSERT_SINGLE_JOB_SLICES), named)
    return True


def end_open_slices(connection: Connection, sql: SqlFragments, batch_id: str, error_code: str | None) -> None:
    """Take all open slices of a batch away, whose row is locked, under new tokens."""
    named = {"batch_id": batch_id}
    connection.execute(text(LOCK_OPEN_SLICES.format(for_update=sql.for_update)), named).all()
    record_attempt_outcome(connection, LEASED_OF_BATCH, named, AttemptOutcome.BATCH_ENDED, error_code)
    connection.execute(text(END_OPEN_SLICES.format(now=sql.now)), named)


def record_finished_attempts(
    connection: Connection, sql: SqlFragments, batch_id: str, slice_ids: Collection[int], outcome: AttemptOutcome
) -> None:
    """Note how the claims of these slices ended, which were written as finished in the same transaction."""
    which = f"batch_id = :batch_id AND id {sql.in_numbers}"
    record_attempt_outcome(connection, which, {"batch_id": batch_id, "numbers": comma_separated(slice_ids)}, outcome)


def batches_with_future_times(connection: Connection, sql: SqlFragments, rule: FutureTimeRule) -> Sequence[str]:
    """The batches with slices whose moments lie too far ahead."""
    return connection.scalars(text(_format_rule(SELECT_BATCHES_WITH_FUTURE_TIMES, sql, rule))).all()


def reset_future_times(connection: Connection, sql: SqlFragments, batch_id: str, rule: FutureTimeRule) -> int:
    """Put those moments back, of a batch whose row is locked; returns of how many slices."""
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
INSERT INTO attempts (batch_id, slice_id, first, past, number, token, worker_id, ending, error_code, claimed_at)
SELECT batch_id, id, first, first + size, attempts, token, worker_id, :ending, :code, leased_at FROM slices
WHERE {which}
"""


def record_attempt_outcome(
    connection: Connection,
    condition: str,
    params: dict[str, Any],
    outcome: AttemptOutcome,
    error_code: str | None = None,
) -> None:
    """Note that the claims of these slices ended so. `which` is a condition on `slices` that names what is `named`."""
    connection.execute(
        text(INSERT_ATTEMPT.format(which=condition)), {**params, "ending": outcome.value, "code": error_code}
    )
