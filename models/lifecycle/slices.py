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

from models.db import Fragments, as_numbers, insert_rows
from models.states import AttemptEnding, SliceState

COLUMNS = ("batch_id", "first", "size", "state")

# The fence. A token is given out once, and on both databases no id is given out twice.
HELD = "batch_id = :batch_id AND id = :slice_id AND token = :token AND state = 'leased'"
LEASED = "batch_id = :batch_id AND state = 'leased'"

# A lease that ran out unnoticed is still the holder's until somebody takes it: the token tells. Skips what its own
# holder is writing at the moment: nobody can take that, and all other leases would wait for the end of the write.
RENEW = """
UPDATE slices SET lease_expires_at = {later} WHERE id = (SELECT id FROM slices WHERE {held} {skip_locked})
"""

# The write thread may close a slice, or be about to, while the heartbeat still believes it held.
STILL_OURS = """
SELECT 1 FROM slices
WHERE batch_id = :batch_id AND id = :slice_id AND token = :token AND state IN ('leased', 'done')
"""

# Given back in good order: the claim does not count as an attempt.
RELEASE = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, attempts = attempts - 1 WHERE {held}
"""

# A finished slice ends here; an unfinished one is only locked against a new claim.
WRITE = """
UPDATE slices SET state = CASE WHEN :finished THEN 'done' ELSE state END,
       done_at = CASE WHEN :finished THEN {now} END,
       lapses = CASE WHEN :answered THEN 0 ELSE lapses END
WHERE {held}
"""

PUT_OFF = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, not_before = {later},
       retries = retries + 1, lapses = 0
WHERE {held}
"""

REQUEUE = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, deaths = :deaths, lapses = :lapses
WHERE {held}
"""

# Under a new token: to its holder, should that one wake, the slice is lost and not closed.
RETIRE = "UPDATE slices SET state = 'done', token = token + 1, done_at = {now} WHERE {held}"

SPLIT = """
INSERT INTO slices (batch_id, first, size, state, attempts, deaths, lapses, retries, leased_at)
SELECT j.batch_id, j.position, 1, 'queued', :attempts, :deaths, :lapses, :retries,
       (SELECT s.leased_at FROM slices s WHERE s.id = :slice_id)
FROM jobs j
WHERE j.batch_id = :batch_id AND j.position >= :first AND j.position < :past
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position)
ORDER BY j.position
"""

# Skips a row that its holder is just renewing: that holder is alive.
LOCK_LEASED = """
SELECT id AS slice_id, batch_id, first, size, token, attempts, deaths, lapses, retries FROM slices
WHERE batch_id = :batch_id AND {which} ORDER BY id {skip_locked}
"""

LOCK_OPEN = "SELECT id FROM slices WHERE batch_id = :batch_id AND state <> 'done' ORDER BY id {for_update}"

# Whoever computes for the batch has lost.
END_OPEN = """
UPDATE slices SET state = 'done', token = token + 1, done_at = {now} WHERE batch_id = :batch_id AND state <> 'done'
"""

QUEUED = "SELECT id FROM slices WHERE batch_id = :batch_id AND state = 'queued' ORDER BY first"

BATCHES_AHEAD = "SELECT DISTINCT batch_id FROM slices WHERE state = '{state}' AND {column} > {bound} ORDER BY batch_id"

# After a step of the database's clock. Skips rows that their holders are just renewing, by the new time.
PUT_BACK = """
UPDATE slices SET {column} = {moment} WHERE batch_id = :batch_id AND id IN (
    SELECT id FROM slices
    WHERE batch_id = :batch_id AND state = '{state}' AND {column} > {bound} ORDER BY id {skip_locked})
"""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A column of slices in one state: how many seconds ahead its moments may lie, and where others are put."""

    state: str
    column: str
    farthest: float
    put: float


class Held(Protocol):
    """What names a claim of a slice: a worker's lease, or the slice's row as it was locked."""

    @property
    def batch_id(self) -> str: ...
    @property
    def slice_id(self) -> int: ...
    @property
    def token(self) -> int: ...


def fence(held: Held) -> dict[str, Any]:
    """The parameters of HELD."""
    return {"batch_id": held.batch_id, "slice_id": held.slice_id, "token": held.token}


def lay(connection: Connection, batch_id: str, pieces: Iterable[tuple[int, int]]) -> None:
    """Add slices, by `(first, size)`, to a batch whose row is locked."""
    insert_rows(connection, "slices", COLUMNS, ((batch_id, *piece, SliceState.QUEUED.value) for piece in pieces))


def queued(connection: Connection, batch_id: str, most: int | None = None) -> Sequence[int]:
    """The ids of the slices that nobody has claimed, or of so many, in the order of their jobs."""
    limit = "" if most is None else f" LIMIT {most}"
    return connection.scalars(text(QUEUED + limit), {"batch_id": batch_id}).all()


def renew(connection: Connection, sql: Fragments, held: Held, seconds: float) -> bool:
    """Prolong a lease; False where it is lost, but not where its holder closes or closed it."""
    renewed = connection.execute(_sql(RENEW, sql), {**fence(held), "seconds": seconds}).rowcount
    return renewed == 1 or connection.scalar(text(STILL_OURS), fence(held)) is not None


def release(connection: Connection, held: Held) -> bool:
    """Give a slice back in good order; False where it is lost."""
    note(connection, HELD, fence(held), AttemptEnding.RELEASED)
    return connection.execute(text(RELEASE.format(held=HELD)), fence(held)).rowcount == 1


def write(connection: Connection, sql: Fragments, held: Held, *, finished: bool, answered: bool) -> bool:
    """Fence a slice of which results are written, and end it where it is finished; False where it is lost."""
    named = {**fence(held), "finished": finished, "answered": answered}
    return connection.execute(_sql(WRITE, sql), named).rowcount == 1


def put_off(connection: Connection, sql: Fragments, held: Held, seconds: float) -> bool:
    """Queue a slice again for later; False where it is lost."""
    return connection.execute(_sql(PUT_OFF, sql), {**fence(held), "seconds": seconds}).rowcount == 1


def lock_leased(
    connection: Connection, sql: Fragments, batch_id: str, which: str, named: dict[str, Any]
) -> Sequence[Row[Any]]:
    """Lock those leased slices of a batch, whose row is locked, that the condition `which` finds."""
    query = text(LOCK_LEASED.format(which=which, skip_locked=sql.skip_locked))
    return connection.execute(query, {**named, "batch_id": batch_id}).all()


def requeue(connection: Connection, row: Row[Any], ending: AttemptEnding, *, deaths: int, lapses: int) -> bool:
    """Queue a locked slice again, whose claim ended so; False where it is lost."""
    note(connection, HELD, fence(row), ending)
    named = {**fence(row), "deaths": deaths, "lapses": lapses}
    return connection.execute(text(REQUEUE.format(held=HELD)), named).rowcount == 1


def split(
    connection: Connection, sql: Fragments, row: Row[Any], ending: AttemptEnding, *, deaths: int, lapses: int
) -> bool:
    """Replace a locked slice, whose claim ended so, by one for each open job; False where it is lost."""
    note(connection, HELD, fence(row), ending)
    if connection.execute(_sql(RETIRE, sql), fence(row)).rowcount == 0:
        return False
    named = {
        "batch_id": row.batch_id, "first": row.first, "past": row.first + row.size, "attempts": row.attempts,
        "deaths": deaths, "lapses": lapses, "retries": row.retries, "slice_id": row.slice_id,
    }  # fmt: skip
    connection.execute(text(SPLIT), named)
    return True


def end_open(connection: Connection, sql: Fragments, batch_id: str, code: str | None) -> None:
    """Take all open slices of a batch away, whose row is locked, under new tokens."""
    named = {"batch_id": batch_id}
    connection.execute(text(LOCK_OPEN.format(for_update=sql.for_update)), named).all()
    note(connection, LEASED, named, AttemptEnding.STOPPED, code)
    connection.execute(text(END_OPEN.format(now=sql.now)), named)


def note_done(
    connection: Connection, sql: Fragments, batch_id: str, ids: Collection[int], ending: AttemptEnding
) -> None:
    """Note how the claims of these slices ended, which were written as finished in the same transaction."""
    which = f"batch_id = :batch_id AND id {sql.in_numbers}"
    note(connection, which, {"batch_id": batch_id, "numbers": as_numbers(ids)}, ending)


def batches_ahead(connection: Connection, sql: Fragments, ahead: Ahead) -> Sequence[str]:
    """The batches with slices whose moments lie too far ahead."""
    return connection.scalars(text(_ahead(BATCHES_AHEAD, sql, ahead))).all()


def put_back(connection: Connection, sql: Fragments, batch_id: str, ahead: Ahead) -> int:
    """Put those moments back, of a batch whose row is locked; returns of how many slices."""
    return connection.execute(text(_ahead(PUT_BACK, sql, ahead)), {"batch_id": batch_id}).rowcount


def _ahead(statement: str, sql: Fragments, ahead: Ahead) -> str:
    return statement.format(
        state=ahead.state, column=ahead.column, bound=sql.after(ahead.farthest), moment=sql.after(ahead.put),
        skip_locked=sql.skip_locked,
    )  # fmt: skip


def _sql(statement: str, sql: Fragments) -> TextClause:
    return text(statement.format(held=HELD, now=sql.now, later=sql.later, skip_locked=sql.skip_locked))


NOTE = """
INSERT INTO attempts (batch_id, slice_id, first, past, number, token, worker_id, ending, error_code, claimed_at)
SELECT batch_id, id, first, first + size, attempts, token, worker_id, :ending, :code, leased_at FROM slices
WHERE {which}
"""


def note(
    connection: Connection, which: str, named: dict[str, Any], ending: AttemptEnding, code: str | None = None
) -> None:
    """Note that the claims of these slices ended so. `which` is a condition on `slices` that names what is `named`."""
    connection.execute(text(NOTE.format(which=which)), {**named, "ending": ending.value, "code": code})
