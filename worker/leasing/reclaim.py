"""What dead workers leave behind: their slices are queued again, split, or closed. Any process may do it, at any time.

Who watched a process die says how; of one that fell silent only its leases tell, when they run out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, text

from models.db import Database, Fragments
from models.lifecycle import slices, termination
from models.lifecycle.termination import lock_batch
from models.states import AttemptEnding, BatchStatus, Ending, Outcome
from worker.leasing import commit
from worker.leasing.commit import Answer
from worker.leasing.leases import Lease
from worker.leasing.quarantine import Verdict, is_hopeless, verdict

# Whose leases: those that ran out, or all of one worker's.
LAPSED = "state = 'leased' AND lease_expires_at < {now}"
OF_WORKER = "state = 'leased' AND worker_id = :worker_id"

BATCHES = "SELECT DISTINCT batch_id FROM slices WHERE {which} ORDER BY batch_id"

# The code of a job that has had its last attempt, by how that one ended.
LAST_WORDS = {
    AttemptEnding.HUNG: ("timed_out", "the device did not come back from this input in time, again and again"),
    AttemptEnding.DIED: ("worker_died", "workers died while they ran this input"),
}
BURIED = ", ".join(f"'{code}'" for code in sorted({code for code, _ in LAST_WORDS.values()}))

# A batch that ends because of them.
CRASH_LOOP = "crash_loop"
TOLD_CRASH_LOOP = (
    "{count} inputs in a row ended or hung their workers, and none was answered: the model can't do this batch here; "
    "see the workers' logs, then: batchmill retry {batch_id}"
)

COUNTS = f"""
SELECT b.succeeded - b.reused AS answered,
       (SELECT count(*) FROM results r WHERE r.batch_id = b.id AND r.error_code IN ({BURIED})) AS buried
FROM batches b WHERE b.id = :batch_id
"""  # noqa: S608

SILENT = ("worker_died", "workers fell silent while they ran this input")


@dataclass(slots=True)
class Reclaimed:
    """Slices by what became of them; `bells` are those to ring for, by pipeline."""

    queued: list[int] = field(default_factory=list)
    split: list[int] = field(default_factory=list)
    buried: list[int] = field(default_factory=list)
    bells: dict[str, list[int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.queued or self.split or self.buried)

    def add(self, other: "Reclaimed") -> None:
        """Take in what another transaction did."""
        self.queued += other.queued
        self.split += other.split
        self.buried += other.buried
        for pipeline, slice_ids in other.bells.items():
            self.bells.setdefault(pipeline, []).extend(slice_ids)


def lapsed(database: Database, max_attempts: int) -> Reclaimed:
    """See to every slice whose lease ran out; takes no lock when there is none."""
    return _take_back(database, LAPSED.format(now=database.sql.now), {}, AttemptEnding.LAPSED, max_attempts)


def of_worker(database: Database, worker_id: str, ending: AttemptEnding, max_attempts: int) -> Reclaimed:
    """See to every slice of a worker that is known to be dead."""
    return _take_back(database, OF_WORKER, {"worker_id": worker_id}, ending, max_attempts)


def _take_back(
    database: Database, which: str, named: dict[str, Any], ending: AttemptEnding, max_attempts: int
) -> Reclaimed:
    with database.read() as connection:
        batch_ids: Sequence[str] = connection.scalars(text(BATCHES.format(which=which)), named).all()
    done = Reclaimed()
    for batch_id in batch_ids:
        work = partial(
            _of_batch, sql=database.sql, batch_id=batch_id, which=which, named=named, ending=ending, most=max_attempts
        )
        done.add(database.transact(work))
    return done


def _of_batch(
    connection: Connection, *, sql: Fragments, batch_id: str, which: str, named: dict[str, Any], ending: AttemptEnding,
    most: int,
) -> Reclaimed:  # fmt: skip
    done = Reclaimed()
    batch = lock_batch(connection, sql, batch_id)  # before its slices, as everywhere
    if batch is None or batch.status != BatchStatus.IN_PROGRESS:
        return done
    for row in slices.lock_leased(connection, sql, batch_id, which, named):
        if _see_to(connection, sql, row, ending, batch.max_attempts or most, done):
            return Reclaimed(buried=done.buried)  # all other slices were taken away with the batch's end
    if done.queued or done.split:
        done.bells[batch.pipeline] = sorted(done.queued + done.split)
    return done


def _see_to(
    connection: Connection, sql: Fragments, row: Row[Any], ending: AttemptEnding, most: int, done: Reclaimed
) -> bool:
    """Do what the verdict says; returns whether the batch has ended by that."""
    own = ending in (AttemptEnding.DIED, AttemptEnding.HUNG)
    deaths, lapses = row.deaths + own, row.lapses + (not own)
    what = verdict(row.size, deaths, lapses, most)
    if what is Verdict.BURY:
        done.buried.append(row.slice_id)
        return _bury(connection, sql, row, ending, deaths + lapses)
    if what is Verdict.SPLIT:
        if slices.split(connection, sql, row, ending, deaths=deaths, lapses=lapses):
            done.split.append(row.slice_id)
    elif slices.requeue(connection, row, ending, deaths=deaths, lapses=lapses):
        done.queued.append(row.slice_id)
    return False


def _bury(connection: Connection, sql: Fragments, row: Row[Any], ending: AttemptEnding, times: int) -> bool:
    """Close a job that has had its last attempt, under the dead holder's own fence: should it wake, it has lost.

    Returns whether the batch has ended, by its last answer or by one failure too many.
    """
    code, words = LAST_WORDS.get(ending, SILENT)
    lease = Lease(row.slice_id, row.batch_id, row.first, row.size, row.token, row.attempts)
    message = f"{words} ({times} times); look at it, then: batchmill retry {row.batch_id}"
    answer = Answer(lease, row.first, Outcome.FAILED, error_code=code, error_message=message)
    closed = commit.close(connection, sql, [answer], [lease], {lease.slice_id}, version_id=None, by=ending)
    return closed.ended is not None or _end_hopeless(connection, sql, row.batch_id)


def _end_hopeless(connection: Connection, sql: Fragments, batch_id: str) -> bool:
    """End a batch, whose row is locked, where every input so far has ended its worker; returns whether that is so."""
    counts = connection.execute(text(COUNTS), {"batch_id": batch_id}).one()
    if not is_hopeless(counts.buried, counts.answered):
        return False
    message = TOLD_CRASH_LOOP.format(count=counts.buried, batch_id=batch_id)
    termination.begin(connection, sql, batch_id, Ending.FAILED, CRASH_LOOP, message)
    termination.close_some(connection, sql, batch_id)
    return True
