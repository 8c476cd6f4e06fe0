"""Submitting: chunks of jobs while the batch is `validating`, one transaction that accepts it, then the bells.

A batch that is not accepted leaves nothing behind, whatever went wrong; an accepted one is safe, whatever goes wrong.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import insert, text

from models import endings
from models.db import Database, insert_rows
from models.errors import Unreachable
from models.settings import Settings
from models.states import BatchStatus, Ending, SliceState
from models.tables import Batch
from producer.ids import new_batch_id
from producer.inserts import Inserts, removed
from producer.intake import Intake
from producer.readers.rows import Source
from producer.request import Request

SLICE_COLUMNS = ("batch_id", "first", "size", "state")
DISCARD_JOBS = 50_000  # deleted at once, so that other writers of a SQLite file get their turn

# Lock order: the batch's row, then its slices, as everywhere.
ACCEPT = """
UPDATE batches SET status = CASE WHEN :ended THEN 'completed' ELSE 'in_progress' END, in_progress_at = {now},
       completed_at = CASE WHEN :ended THEN {now} END, total = :jobs, failed = :failed, last_seq = :failed,
       max_failures = :max_failures
WHERE id = :batch_id AND status = 'validating'
"""

SET_DEADLINE = "UPDATE batches SET expires_at = {expires_at} WHERE id = :batch_id"

SLICE_IDS = "SELECT id FROM slices WHERE batch_id = :batch_id AND state = 'queued' ORDER BY first"

LEFTOVERS = """
SELECT b.status, (SELECT max(j.position) FROM jobs j WHERE j.batch_id = b.id) AS last
FROM batches b WHERE b.id = :batch_id
"""

Watch = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Submission:
    """An accepted batch: how many jobs it has, of which some may have failed already, and the slices to ring for."""

    batch_id: str
    pipeline: str
    jobs: int
    failed: int
    slice_ids: Sequence[int]


def accept(
    database: Database, slice_jobs: int, request: Request, source: Source, watch: Watch = lambda _: None
) -> Submission:
    """Take a source in as one batch; `watch` hears after each chunk how many jobs are in.

    Raises RefusedBatch or UnreadableSource naming what is wrong with the source; then, as after any other exception,
    nothing of the batch is kept.
    """
    batch_id = new_batch_id()
    _open(database, batch_id, request)
    try:
        intake = Intake(request.pipeline.spec, source, request.parameters, keeps_invalid=request.keeps_invalid)
        jobs, failed = _fill(database, batch_id, intake, watch)
        allowed = None if request.max_failures is None else request.max_failures.of(jobs)
        slice_ids = _accept(database, batch_id, jobs, failed, slice_jobs, allowed)
    except BaseException:
        with suppress(Unreachable):
            _discard(database, batch_id)
        raise
    return Submission(batch_id, request.pipeline.name, jobs, failed, slice_ids)


def ring(settings: Settings, submission: Submission) -> str | None:
    """Ring the bells of an accepted batch; a sentence when they can't be rung, which costs time but no job."""
    from models import broker  # Celery takes a third of a second to import: not before the batch is safe

    try:
        broker.ring(settings, submission.pipeline, submission.slice_ids)
    except Unreachable as error:
        return f"{error}; the batch is safe in SQL and runs when a worker looks there"
    return None


def _open(database: Database, batch_id: str, request: Request) -> None:
    pipeline = request.pipeline
    with database.write() as connection:
        connection.execute(
            insert(Batch.__table__).values(  # type: ignore[arg-type]
                id=batch_id,
                name=request.name,
                pipeline=pipeline.name,
                task=pipeline.task,
                model=pipeline.model,
                revision=pipeline.revision,
                parameters=request.parameters,
                metadata=request.metadata,
                priority=request.priority,
                max_attempts=pipeline.max_attempts,
                status=BatchStatus.VALIDATING.value,
            )
        )
        if request.deadline is not None:
            connection.execute(*request.deadline.setting(SET_DEADLINE, database.sql.later, batch_id=batch_id))


def _fill(database: Database, batch_id: str, intake: Intake, watch: Watch) -> tuple[int, int]:
    """Insert every job; returns how many there are, and how many of them have failed already."""
    jobs = 0
    with Inserts(database, batch_id, intake) as inserts:
        for chunk in intake.chunks():
            inserts.put(chunk)
            jobs = chunk.end
            watch(jobs)
        inserts.finish()
    return jobs, inserts.failed


def _accept(
    database: Database, batch_id: str, jobs: int, failed: int, slice_jobs: int, allowed: int | None
) -> list[int]:
    ended = failed == jobs
    slices = (
        (batch_id, first, min(slice_jobs, jobs - first), SliceState.QUEUED.value)
        for first in range(0, 0 if ended else jobs, slice_jobs)
    )
    with database.write() as connection:
        named = {"batch_id": batch_id, "jobs": jobs, "failed": failed, "ended": ended, "max_failures": allowed}
        if connection.execute(text(ACCEPT.format(now=database.sql.now)), named).rowcount == 0:
            raise removed(batch_id)
        insert_rows(connection, "slices", SLICE_COLUMNS, slices)
        if allowed is not None and failed > allowed:
            message = f"{failed:,} jobs failed already as invalid, more than the {allowed:,} that this batch allows"
            endings.begin(connection, database.sql, batch_id, Ending.BURNED, "too_many_failures", message)
            endings.close_some(connection, database.sql, batch_id)
        return list(connection.scalars(text(SLICE_IDS), named))


def _discard(database: Database, batch_id: str) -> None:
    with database.read() as connection:
        found = connection.execute(text(LEFTOVERS), {"batch_id": batch_id}).one_or_none()
    # When the connection broke while accepting, the batch may have been accepted all the same.
    if found is None or found.status != BatchStatus.VALIDATING:
        return
    for end in range(DISCARD_JOBS, (found.last or 0) + 1, DISCARD_JOBS):
        with database.write() as connection:
            query = text("DELETE FROM jobs WHERE batch_id = :batch_id AND position < :end")
            connection.execute(query, {"batch_id": batch_id, "end": end})
    with database.write() as connection:
        connection.execute(text("DELETE FROM batches WHERE id = :batch_id"), {"batch_id": batch_id})
