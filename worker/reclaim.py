"""What dead workers leave behind: their slices are queued again, split, or closed. Any process may do it, at any time.

Who watched a process die says how; of one that fell silent only its leases tell, when they run out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, text

from models import attempts
from models.db import Database
from models.endings import lock_batch
from models.states import AttemptEnding, BatchStatus, Outcome
from worker import store
from worker.claims import Lease
from worker.store import Answer
from worker.suspicion import Verdict, verdict

# Whose leases: those that ran out, or all of one worker's.
LAPSED = "state = 'leased' AND lease_expires_at < {now}"
OF_WORKER = "state = 'leased' AND worker_id = :worker_id"

BATCHES = "SELECT DISTINCT batch_id FROM slices WHERE {which} ORDER BY batch_id"

# Skips a row that its holder is just renewing: that holder is not dead.
LOCK = """
SELECT id, batch_id, first, size, token, attempts, deaths, lapses, retries, worker_id, leased_at FROM slices
WHERE batch_id = :batch_id AND {which} ORDER BY id {skip_locked}
"""

QUEUE = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, deaths = :deaths, lapses = :lapses
WHERE id = :slice_id
"""

SPLIT = """
INSERT INTO slices (batch_id, first, size, state, attempts, deaths, lapses, retries, leased_at)
SELECT j.batch_id, j.position, 1, 'queued', :attempts, :deaths, :lapses, :retries,
       (SELECT s.leased_at FROM slices s WHERE s.id = :slice_id)
FROM jobs j
WHERE j.batch_id = :batch_id AND j.position >= :first AND j.position < :past
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position)
ORDER BY j.position
"""

# Under a new token: to its holder, should that one wake, the slice is lost and not closed.
RETIRE = "UPDATE slices SET state = 'done', token = token + 1, done_at = {now} WHERE id = :slice_id"

# The code of a job that has had its last attempt, by how that one ended.
LAST_WORDS = {
    AttemptEnding.HUNG: ("timed_out", "the device did not come back from this input in time, again and again"),
    AttemptEnding.DIED: ("worker_died", "workers died while they ran this input"),
}
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
    lock = text(LOCK.format(which=which, skip_locked=database.sql.skip_locked))
    for batch_id in batch_ids:
        with database.write() as connection:
            batch = lock_batch(connection, database.sql, batch_id)  # before its slices, as everywhere
            if batch is not None and batch.status == BatchStatus.IN_PROGRESS:
                for row in connection.execute(lock, {"batch_id": batch_id, **named}).all():
                    if _see_to(connection, database, row, ending, batch.max_attempts or max_attempts, done):
                        done.bells.setdefault(batch.pipeline, []).append(row.id)
    return done


def _see_to(
    connection: Connection, database: Database, row: Row[Any], ending: AttemptEnding, most: int, done: Reclaimed
) -> bool:
    """Do what the verdict says; returns whether there is something to claim now."""
    own = ending in (AttemptEnding.DIED, AttemptEnding.HUNG)
    deaths, lapses = row.deaths + own, row.lapses + (not own)
    named = {"slice_id": row.id, "deaths": deaths, "lapses": lapses}
    what = verdict(row.size, deaths, lapses, most)
    if what is Verdict.BURY:
        _bury(connection, database, row, ending, deaths + lapses)
        done.buried.append(row.id)
        return False
    attempts.note(connection, "id = :slice_id", {"slice_id": row.id}, ending)
    if what is Verdict.SPLIT:
        of_row = {name: getattr(row, name) for name in ("batch_id", "first", "attempts", "retries")}
        connection.execute(text(SPLIT), {**named, **of_row, "past": row.first + row.size})
        connection.execute(text(RETIRE.format(now=database.sql.now)), named)
        done.split.append(row.id)
    else:
        connection.execute(text(QUEUE), named)
        done.queued.append(row.id)
    return True


def _bury(connection: Connection, database: Database, row: Row[Any], ending: AttemptEnding, times: int) -> None:
    """Close a job that has had its last attempt, under the dead holder's own fence: should it wake, it has lost."""
    code, words = LAST_WORDS.get(ending, SILENT)
    lease = Lease(row.id, row.batch_id, row.first, row.size, row.token, row.attempts)
    message = f"{words} ({times} times); look at it, then: batchmill retry {row.batch_id}"
    answer = Answer(lease, row.first, Outcome.FAILED, error_code=code, error_message=message)
    store.close(connection, database.sql, [answer], [lease], {lease.slice_id}, version_id=None, by=ending)
