"""What dead workers leave behind: their slices are queued again, split, or closed. Any process may do it, at any time.

A slice whose worker died twice is suspect: one of its inputs may kill whoever runs it. It is split into single jobs,
and each is claimed alone, so that the third death names the culprit and costs nobody else anything.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from models.db import Database
from models.states import Outcome
from worker import store
from worker.claims import SUSPECT_ATTEMPTS, Lease
from worker.store import Answer

LAPSED = """
SELECT id, batch_id, first, size, token, attempts FROM slices
WHERE state = 'leased' AND lease_expires_at < {now} ORDER BY id
"""

STILL_LAPSED = "SELECT count(*) FROM slices WHERE id = :slice_id AND lease_expires_at < {now}"

# Skips a row that its holder is just closing or renewing: that holder is not dead.
RECLAIM = """
WITH lapsed AS MATERIALIZED (
    SELECT id FROM slices WHERE state = 'leased' AND lease_expires_at < {now} AND NOT (size = 1 AND attempts >= :most)
    ORDER BY id {skip_locked}
)
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL
WHERE id IN (SELECT id FROM lapsed)
RETURNING id, batch_id, first, size, attempts
"""

SPLIT = """
INSERT INTO slices (batch_id, first, size, state, attempts)
SELECT j.batch_id, j.position, 1, 'queued', :attempts FROM jobs j
WHERE j.batch_id = :batch_id AND j.position >= :first AND j.position < :end
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position)
ORDER BY j.position
"""

# Under a new token: to its holder, should that one wake, the slice is lost and not closed.
RETIRE = "UPDATE slices SET state = 'done', token = token + 1, done_at = {now} WHERE id = :slice_id"


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """Slices by what became of them."""

    queued: list[int]
    split: list[int]
    buried: list[int]

    def __bool__(self) -> bool:
        return bool(self.queued or self.split or self.buried)


def reclaim(database: Database, max_attempts: int) -> Reclaimed:
    """See to every slice whose lease ran out; takes no lock when there is none."""
    with database.read() as connection:
        lapsed = connection.execute(text(LAPSED.format(now=database.sql.now))).all()
    if not lapsed:
        return Reclaimed([], [], [])
    last = [Lease(*row) for row in lapsed if row.size == 1 and row.attempts >= max_attempts]
    buried = [lease.slice_id for lease in last if _bury(database, lease)]
    with database.write() as connection:
        queued, split = _queue(connection, database, max_attempts)
    return Reclaimed(queued, split, buried)


def _queue(connection: Connection, database: Database, max_attempts: int) -> tuple[list[int], list[int]]:
    sql = database.sql
    query = text(RECLAIM.format(now=sql.now, skip_locked=sql.skip_locked))
    rows = connection.execute(query, {"most": max_attempts}).all()
    suspects = [row for row in rows if row.attempts >= SUSPECT_ATTEMPTS and row.size > 1]
    for row in suspects:
        connection.execute(
            text(SPLIT),
            {"batch_id": row.batch_id, "first": row.first, "end": row.first + row.size, "attempts": row.attempts},
        )
        connection.execute(text(RETIRE.format(now=sql.now)), {"slice_id": row.id})
    split = [row.id for row in suspects]
    return [row.id for row in rows if row.id not in split], split


def _bury(database: Database, lease: Lease) -> bool:
    """Close a job that has had its last attempt, under the dead holder's own fence: should it wake, it has lost."""
    message = f"{lease.attempts} workers died while they ran this input; look at it, then submit it again"
    answer = Answer(lease, lease.first, Outcome.FAILED, error_code="worker_died", error_message=message)
    with database.write() as connection:
        store.lock_batch(connection, database.sql, lease.batch_id)  # before the slice, as everywhere
        if not connection.scalar(text(STILL_LAPSED.format(now=database.sql.now)), {"slice_id": lease.slice_id}):
            return False  # its holder has come back in the meantime
        closed = store.close(connection, database.sql, [answer], [lease], {lease.slice_id}, version_id=None)
    return lease.slice_id not in closed.lost
