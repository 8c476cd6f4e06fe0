"""Submitting: chunks of jobs while the batch is `validating`, one transaction that accepts it, then the bells.

A batch that is not accepted leaves nothing behind, whatever went wrong, unless it has an idempotency key: then only a
source that can't be a batch leaves nothing, and after anything else the same submission goes on where it stopped.
An accepted batch is safe, whatever goes wrong.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection, text

from models.background import Pulse
from models.db import Database, Fragments
from models.errors import BatchmillError, DatabaseRefused, Unreachable, UnreadableSource, UsageError
from models.lifecycle import slices, termination
from models.settings import Settings
from models.states import BatchStatus, Ending
from producer.batches import retry
from producer.readers.rows import Source
from producer.readers.storable import storable
from producer.submission import open_submission, reuse, streaming
from producer.submission.chunks import Intake
from producer.submission.job_writer import Inserts
from producer.submission.open_submission import Entry, enter, lost
from producer.submission.request import Request
from producer.submission.resume import Rereading

STREAM_SECONDS = 1.0  # so long a slow source is read until what there is can be worked on
DISCARD_JOBS = 50_000  # deleted at once, so that other writers of a SQLite file get their turn

# Lock order: the batch's row, then its slices, as everywhere.
ACCEPT = """
UPDATE batches SET status = CASE WHEN :ended THEN 'completed' ELSE 'in_progress' END, in_progress_at = {now},
       completed_at = CASE WHEN :ended THEN {now} END, total = :jobs, failed = :failed, succeeded = :reused,
       reused = :reused, last_seq = :answered, max_failures = :max_failures
WHERE id = :batch_id AND status = 'validating' AND submitter = :submitter
"""

# Whoever looks for the batch's key from now on finds none, and nobody takes over what is about to go.
LET_GO = """
UPDATE batches SET idempotency_key = NULL WHERE id = :batch_id AND status = 'validating' AND submitter = :submitter
"""

# Mended, the same submission is another. It locks nothing else, so it waits for nobody who waits for it.
BROKEN = "UPDATE batches SET idempotency_key = NULL WHERE id = :batch_id"

HELD = "SELECT 1 FROM batches WHERE id = :batch_id AND status = 'validating' AND submitter = :submitter {for_update}"

LAST = "SELECT max(position) FROM jobs WHERE batch_id = :batch_id"
DISCARD = "DELETE FROM batches WHERE id = :batch_id AND status = 'validating'"

Watch = Callable[[int], object]
Begun = Callable[["Submission"], object]


@dataclass(frozen=True, slots=True)
class Submission:
    """An accepted batch: how many jobs it has, of which some may have failed already, and the slices to ring for.

    `skipped` of the jobs were in before, from a submission that was broken off. `known` says that the whole batch was:
    the idempotency key's one, which nothing was done to, in the state in which it is. `reused` are those that have an
    earlier batch's result, None where that was not asked for; `obstacle` says why there could be none. `broke_off` says
    why the source ended before its end: the last job has failed in the place of all that was not read.
    """

    batch_id: str
    pipeline: str
    jobs: int
    failed: int
    slice_ids: Sequence[int]
    skipped: int = 0
    known: BatchStatus | None = None
    reused: int | None = None
    obstacle: str | None = None
    broke_off: str | None = None

    @property
    def warning(self) -> str | None:
        """What is wrong with a batch that was there before: nothing of this submission will be run. Else None."""
        if self.known in (None, BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.COMPLETED):
            return None
        said = f"{self.batch_id}, submitted under this key before, is {self.known}, and nothing was submitted now"
        return f"{said}; run it again with: batchmill retry {self.batch_id}, or take another key"


def accept(
    database: Database, slice_jobs: int, request: Request, source: Source, watch: Watch = lambda _: None,
    begun: Begun = lambda _: None,
) -> Submission:  # fmt: skip
    """Take a source in as one batch; `watch` hears after each chunk how many jobs are in.

    `begun` hears of slices to ring for while more is read, where no row can refuse the batch.

    Where the request has an idempotency key, the same request and source twice are one batch. Raises RefusedBatch or
    UnreadableSource naming what is wrong with the source, and KeyConflict or KeyBusy where the key is another's.
    """
    entry = enter(database, request)
    streams = _streams(request, entry)
    intake = Intake(
        request.pipeline.spec, source, request.parameters, keeps_invalid=request.keeps_invalid, cut_at=entry.read_jobs,
        at_most_seconds=STREAM_SECONDS if streams else math.inf, keeps_broken=_keeps_broken(request),
    )  # fmt: skip
    rereading = Rereading(entry, intake)
    if not entry.is_open:
        rereading.finish()
        return Submission(entry.batch_id, request.pipeline.name, entry.read_jobs, 0, (), entry.read_jobs, entry.status)
    try:
        made = _read(database, slice_jobs, request, entry, intake, rereading, watch, begun=begun if streams else None)
    except BaseException as error:
        if rereading.agrees and (entry.key is None or isinstance(error, UsageError)):
            with suppress(Unreachable, DatabaseRefused):
                _discard(database, entry)
                streaming.break_off(database, entry, str(error) or "that was interrupted")
        raise
    if made.broke_off is not None and entry.key is not None:
        with suppress(Unreachable), database.write() as connection:
            connection.execute(text(BROKEN), {"batch_id": entry.batch_id})
    return made


def fill(database: Database, slice_jobs: int, request: Request, entry: Entry, source: Source) -> Submission:
    """Take a source in, which may have no rows, as the batch of an entry without a key that was taken over.

    Whatever goes wrong, the batch is still there and `validating`. Raises what `accept` raises.
    """
    clear(database, entry)
    intake = Intake(
        request.pipeline.spec, source, request.parameters, keeps_invalid=request.keeps_invalid, allows_empty=True
    )
    return _read(database, slice_jobs, request, entry, intake, Rereading(entry, intake), lambda _: None)


def fail(database: Database, entry: Entry, code: str, message: str) -> None:
    """End the batch of an entry that is still read in; every job that is in fails so. Nothing where it is not ours."""
    message = storable(message)

    def work(connection: Connection) -> None:
        if _is_ours(connection, database.sql, entry):
            termination.begin(connection, database.sql, entry.batch_id, Ending.FAILED, code, message)
            termination.close_some(connection, database.sql, entry.batch_id)

    database.transact(work)


def ring(settings: Settings, submission: Submission) -> str | None:
    """Ring the bells of an accepted batch; a sentence when they can't be rung, which costs time but no job."""
    from models.lifecycle import wakeups  # Celery takes a third of a second to import: not before the batch is safe

    try:
        wakeups.ring(settings, submission.pipeline, submission.slice_ids)
    except Exception as error:  # the batch is accepted: nothing may look as if it were not
        why = str(error) if isinstance(error, BatchmillError) else f"the bells can't be rung ({type(error).__name__})"
        return f"{why}; the batch is safe in SQL and runs when a worker looks there"
    return None


class Bells:
    """Rings while a batch is read in; where that can't be done, not again: the source must not wait for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ring = True

    def __call__(self, some: Submission) -> None:
        """Ring for these slices."""
        self._ring = self._ring and ring(self._settings, some) is None


def _read(
    database: Database, slice_jobs: int, request: Request, entry: Entry, intake: Intake, rereading: Rereading,
    watch: Watch, *, begun: Begun | None = None,
) -> Submission:  # fmt: skip
    allowed = request.max_failures.count if request.max_failures else None
    inserts = Inserts(database, entry, intake, slice_jobs=None if begun is None else slice_jobs, allowed=allowed)
    hear = (
        None
        if begun is None
        else lambda: begun(
            Submission(entry.batch_id, request.pipeline.name, 0, 0, streaming.first_queued(database, entry.batch_id))
        )
    )
    jobs, failed = _fill(database, entry, inserts, rereading, watch, hear)
    made = Submission(
        entry.batch_id, request.pipeline.name, jobs, failed, (), entry.read_jobs, broke_off=intake.broke_off
    )
    if begun is not None:
        return replace(made, slice_ids=streaming.finish(database, entry, jobs, request.max_failures))
    allowed = None if request.max_failures is None else request.max_failures.of(jobs)
    if not request.reuse:
        accepting = partial(_accept, sql=database.sql, entry=entry, made=made, slice_jobs=slice_jobs, allowed=allowed)
        return replace(made, slice_ids=database.transact(accepting))
    with (
        Pulse(lambda: open_submission.beat(database, entry), open_submission.PULSE_SECONDS),
        reuse.found(database, entry, request, jobs) as found,
        found.begin(),
    ):
        if not _is_ours(found.connection, database.sql, entry):
            raise lost(found.connection, entry)
        made = replace(made, reused=found.take(failed), obstacle=found.obstacle)
        return replace(made, slice_ids=_accept(found.connection, database.sql, entry, made, slice_jobs, allowed))


def _keeps_broken(request: Request) -> tuple[type[BatchmillError], ...]:
    """After which errors of the source what was read so far is a batch, with one failed job for what was not.

    Under a key the same submission goes on once the source answers again.
    """
    if not request.keeps_invalid:
        return ()
    return (UnreadableSource,) if request.idempotency_key is not None else (UnreadableSource, Unreachable)


def _streams(request: Request, entry: Entry) -> bool:
    """Whether the batch can be worked on while it is read in: no row can refuse it, nor waits for the others."""
    # What was begun without, by an earlier version, has no slices yet.
    return request.keeps_invalid and not request.reuse and (entry.reading or entry.read_jobs == 0)


def _fill(
    database: Database, entry: Entry, inserts: Inserts, rereading: Rereading, watch: Watch,
    begun: Callable[[], object] | None = None,
) -> tuple[int, int]:  # fmt: skip
    """Insert every job that is not in; returns how many there are, and how many of them have failed already."""
    jobs = 0
    with (
        Pulse(lambda: open_submission.beat(database, entry), open_submission.PULSE_SECONDS),
        inserts,
    ):
        for chunk in rereading.chunks():
            if chunk.end <= entry.read_jobs:
                inserts.skip(chunk)
            else:
                inserts.put(chunk, rereading.digest)
                if chunk.is_cut:  # a slow source: what there is does not wait for more
                    inserts.finish()
                if begun is not None and inserts.chunks:
                    begun()
            jobs = chunk.end
            watch(jobs)
        inserts.finish()
    return jobs, inserts.failed


def _accept(
    connection: Connection, sql: Fragments, entry: Entry, made: Submission, slice_jobs: int, allowed: int | None
) -> list[int]:
    """Set a batch going inside a transaction that is there already; returns its slices."""
    reused = made.reused or 0
    answered = made.failed + reused
    named = {
        **_named(entry), "jobs": made.jobs, "failed": made.failed, "reused": reused, "answered": answered,
        "ended": answered == made.jobs, "max_failures": allowed,
    }  # fmt: skip
    if connection.execute(text(ACCEPT.format(now=sql.now)), named).rowcount == 0:
        raise lost(connection, entry)
    if answered < made.jobs:
        _lay_slices(connection, made, slice_jobs)
    if allowed is not None and made.failed > allowed:
        message = f"{made.failed:,} jobs failed already as invalid, more than the {allowed:,} that this batch allows"
        termination.begin(connection, sql, entry.batch_id, Ending.BURNED, termination.TOO_MANY, message)
        termination.close_some(connection, sql, entry.batch_id)
    return list(slices.queued(connection, entry.batch_id))


def _lay_slices(connection: Connection, made: Submission, slice_jobs: int) -> None:
    # Few jobs have failed already, and a slice passes over them; of what was reused little may be left in between.
    whole = ((first, min(slice_jobs, made.jobs - first)) for first in range(0, made.jobs, slice_jobs))
    some = (retry.slices(positions, slice_jobs) for positions in reuse.open_positions(connection, made.batch_id))
    for pieces in some if made.reused else (whole,):
        slices.lay(connection, made.batch_id, pieces)


def _discard(database: Database, entry: Entry) -> None:
    named = _named(entry)
    # When the connection broke while accepting, the batch may have been accepted all the same.
    if database.transact(lambda connection: connection.execute(text(LET_GO), named).rowcount) == 0:
        return
    _delete_jobs(database, entry)
    database.transact(lambda connection: connection.execute(text(DISCARD), named))


def clear(database: Database, entry: Entry) -> None:
    """Delete what a submitter before this one got in."""
    _delete_jobs(database, entry)

    def work(connection: Connection) -> None:
        if not _is_ours(connection, database.sql, entry):
            raise lost(connection, entry)
        for table in ("results", "jobs"):
            connection.execute(text(f"DELETE FROM {table} WHERE batch_id = :batch_id"), _named(entry))  # noqa: S608

    database.transact(work)


def _delete_jobs(database: Database, entry: Entry) -> None:
    """All but the last ones, in chunks, while the batch is ours and `validating`."""
    named = _named(entry)
    with database.read() as connection:
        last = connection.scalar(text(LAST), named) or 0
    query = text("DELETE FROM jobs WHERE batch_id = :batch_id AND position < :end")

    def delete(connection: Connection, end: int) -> bool:
        is_ours = _is_ours(connection, database.sql, entry)
        if is_ours:
            connection.execute(query, {**named, "end": end})
        return is_ours

    for end in range(DISCARD_JOBS, last + 1, DISCARD_JOBS):
        if not database.transact(partial(delete, end=end)):
            return


def _is_ours(connection: Connection, sql: Fragments, entry: Entry) -> bool:
    """Whether the batch is still read in by this submitter; then its row is locked."""
    query = text(HELD.format(for_update=sql.for_update))
    return connection.execute(query, _named(entry)).one_or_none() is not None


def _named(entry: Entry) -> dict[str, str]:
    return {"batch_id": entry.batch_id, "submitter": entry.submitter}
