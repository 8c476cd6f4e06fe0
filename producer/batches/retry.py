"""Replaying: jobs that failed are tried again, in the same batch and the same rows' place; the old results are kept.

Their results move to `past_results`, the counters go back, and new slices cover them, some thousands at a time: after
each step the batch is sound, so a replay that is broken off has replayed a part. A slice is a range: jobs in between
that have results are passed over by whoever claims it, so no other slice that runs may reach into it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Text, TextClause, bindparam, text

from models.db import Database, Fragments, as_numbers
from models.errors import UsageError
from models.lifecycle import slices as slicing
from models.lifecycle.termination import lock_batch
from models.states import BatchStatus, Outcome
from producer.batches import views
from producer.times import Deadline

CHUNK_JOBS = 20_000
# A slice of few jobs that lie far apart would have its claimer look through all that lies between.
WIDEST = 32  # times the jobs that a slice may have

# What could not be a job when it was read in has no input, and can't be one now. Bounded on both sides: a chunk reads
# its own places, and not all that are behind it.
REPLAYABLE = """
SELECT r.position, r.status FROM results r JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
WHERE r.batch_id = :batch_id AND r.position > :after AND r.position <= :upto AND r.status IN :outcomes
  AND j.input <> {no_input} AND (:any_code OR r.error_code IN :codes)
ORDER BY r.position
"""

LAST = "SELECT coalesce(max(position), -1) FROM results WHERE batch_id = :batch_id"

RUNNING = """
SELECT count(*) FROM slices WHERE batch_id = :batch_id AND state <> 'done' AND first + size > :first
"""

KEEP = """
INSERT INTO past_results (batch_id, position, seq, status, output, error_code, error_message, truncated, attempts,
                          slice_id, token, model_version_id, finished_at)
SELECT batch_id, position, seq, status, output, error_code, error_message, truncated, attempts,
       slice_id, token, model_version_id, finished_at
FROM results WHERE batch_id = :batch_id AND position {in_numbers}
"""

TAKE_BACK = "DELETE FROM results WHERE batch_id = :batch_id AND position {in_numbers}"

REOPEN = """
UPDATE batches SET status = 'in_progress', reading = false, failed = failed - :failed,
       cancelled = cancelled - :cancelled, expired = expired - :expired, completed_at = NULL, failed_at = NULL,
       expired_at = NULL, cancelling_at = NULL, cancelled_at = NULL, error_code = NULL, error_message = NULL,
       expires_at = {expires_at}
WHERE id = :batch_id
"""

# A batch that burned would burn again at the first answer: what stays failed is allowed for on top.
ALLOW = """
UPDATE batches SET max_failures = max_failures + failed - (
    SELECT count(*) FROM results r WHERE r.batch_id = :batch_id AND r.status = 'failed' AND :takes_failed
      AND (:any_code OR r.error_code IN :codes))
WHERE id = :batch_id AND failed > max_failures
"""

KEPT_DEADLINE = "CASE WHEN expires_at > {now} THEN expires_at END"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which jobs to try again: those of these outcomes, and of these error codes where some are named."""

    outcomes: tuple[Outcome, ...] = (Outcome.FAILED,)
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Replay:
    """What was put back: how many jobs, and the slices to ring for."""

    batch_id: str
    pipeline: str
    jobs: int
    slice_ids: Sequence[int]


def replay(
    database: Database, batch_id: str, choice: Choice, slice_jobs: int, deadline: Deadline | None = None
) -> Replay:
    """Put a batch's chosen jobs back; a deadline that has passed is dropped, unless there is a new one.

    Raises NotFound, and UsageError where the batch has not ended or nothing of it is chosen.
    """
    batch = views.get(database, batch_id)
    if not batch.status.ended:
        raise UsageError(f"{batch_id} is {batch.status.value}; wait until it has ended: batchmill wait {batch_id}")
    with database.read() as connection:
        last = connection.execute(text(LAST), {"batch_id": batch_id}).scalar_one()
    jobs = 0
    for after in range(-1, last, CHUNK_JOBS):
        work = partial(
            _put_back, database=database, batch_id=batch_id, choice=choice, slice_jobs=slice_jobs, after=after,
            deadline=deadline, begun=jobs > 0,
        )  # fmt: skip
        jobs += database.transact(work)
    if jobs == 0:
        raise UsageError(f"{batch_id} has no {_of(choice)} jobs to try again; see: batchmill show {batch_id}")
    with database.read() as connection:
        slice_ids = slicing.queued(connection, batch_id)
    return Replay(batch_id, batch.pipeline, jobs, slice_ids)


def slices(positions: Sequence[int], slice_jobs: int) -> Iterator[tuple[int, int]]:
    """`(first, size)` of slices that cover these positions, which ascend, and overlap nowhere. Pure."""
    first, count, last = positions[0], 0, positions[0]
    for position in positions:
        if count == slice_jobs or position - first >= slice_jobs * WIDEST:
            yield first, last - first + 1
            first, count = position, 0
        last, count = position, count + 1
    yield first, last - first + 1


def _put_back(
    connection: Connection, database: Database, batch_id: str, choice: Choice, slice_jobs: int, after: int,
    deadline: Deadline | None, *, begun: bool,
) -> int:  # fmt: skip
    """Put back what is chosen of the chunk behind the position `after`; returns how many jobs that were."""
    batch = lock_batch(connection, database.sql, batch_id)
    status = BatchStatus(batch.status) if batch is not None else BatchStatus.CANCELLING
    if not status.ended and (status is not BatchStatus.IN_PROGRESS or not begun):
        raise UsageError(f"{batch_id} runs again already; wait until it has ended: batchmill wait {batch_id}")
    rows = connection.execute(_replayable(database), _chosen(batch_id, choice, after)).all()
    if not rows:
        return 0
    if not begun:
        query = text(ALLOW).bindparams(bindparam("codes", expanding=True, type_=Text()))
        takes_failed = Outcome.FAILED in choice.outcomes
        connection.execute(query, {**_chosen(batch_id, choice, after), "takes_failed": takes_failed})
    positions = [row.position for row in rows]
    if connection.scalar(text(RUNNING), {"batch_id": batch_id, "first": positions[0]}):
        raise UsageError(f"somebody else replays {batch_id}; wait until it has ended: batchmill wait {batch_id}")
    _keep(connection, database.sql, batch_id, positions)
    slicing.lay(connection, batch_id, slices(positions, slice_jobs))
    _reopen(connection, database, batch_id, Counter(row.status for row in rows), deadline)
    return len(positions)


def _keep(connection: Connection, sql: Fragments, batch_id: str, positions: Sequence[int]) -> None:
    named = {"batch_id": batch_id, "numbers": as_numbers(positions)}
    for statement in (KEEP, TAKE_BACK):
        connection.execute(text(statement.format(in_numbers=sql.in_numbers)), named)


def _reopen(
    connection: Connection, database: Database, batch_id: str, outcomes: Counter[str], deadline: Deadline | None
) -> None:
    sql = database.sql
    counts = {outcome.value: outcomes[outcome.value] for outcome in Outcome if outcome is not Outcome.SUCCEEDED}
    if deadline is not None:
        connection.execute(*deadline.setting(REOPEN, sql.later, batch_id=batch_id, **counts))
        return
    query = text(REOPEN.format(expires_at=KEPT_DEADLINE.format(now=sql.now)))
    connection.execute(query, {"batch_id": batch_id, **counts})


def _replayable(database: Database) -> TextClause:
    query = text(REPLAYABLE.format(no_input=database.sql.empty_document))
    return query.bindparams(bindparam("outcomes", expanding=True), bindparam("codes", expanding=True, type_=Text()))


def _chosen(batch_id: str, choice: Choice, after: int) -> dict[str, Any]:
    return {
        "batch_id": batch_id, "after": after, "upto": after + CHUNK_JOBS, "any_code": not choice.codes,
        "outcomes": [outcome.value for outcome in choice.outcomes], "codes": list(choice.codes),
    }  # fmt: skip


def _of(choice: Choice) -> str:
    chosen = " or ".join(outcome.value for outcome in choice.outcomes)
    return f"{chosen} ({', '.join(choice.codes)})" if choice.codes else chosen
