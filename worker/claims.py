"""Claims: which slices a worker takes, keeps and gives back. SQL decides, by its own clock.

Lock order, here and in `worker/store.py`: the batch's row first, then its slices. A claim locks a batch only to settle
its revision, before it touches a slice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, bindparam, column, text

from models import slices
from models.columns import Document
from models.db import Database, Fragments
from models.errors import Unreachable
from worker.suspicion import SUSPECT_DEATHS, SUSPECT_LAPSES, suspect_of


@dataclass(frozen=True, slots=True)
class Lease:
    """A slice that this process holds; `token` is the fence that every closing write must name."""

    slice_id: int
    batch_id: str
    first: int
    size: int
    token: int
    attempts: int
    parameters: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    deaths: int = 0
    lapses: int = 0
    retries: int = 0
    max_attempts: int | None = None  # of its batch; None leaves it to the setting

    @property
    def suspect(self) -> bool:
        """True when workers died over it: it must be run alone, so that another death names it."""
        return suspect_of(self.deaths, self.lapses)


@dataclass(frozen=True, slots=True)
class Job:
    """One input of a held slice that has no result yet."""

    lease: Lease
    position: int
    input: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims, and with which model: a batch once begun takes no other."""

    worker_id: str
    pipeline: str
    task: str
    model: str
    revision: str
    lease_seconds: float


# Highest priority, nearest deadline, the batch served least so far (answered or out with a worker), then the oldest.
CANDIDATES = """
SELECT b.id, b.revision, b.parameters, b.max_attempts
FROM batches b
WHERE b.pipeline = :pipeline AND b.task = :task AND b.status = 'in_progress'
  AND (b.revision IS NULL OR b.revision = :revision)
  AND (b.expires_at IS NULL OR b.expires_at > {now})
  AND EXISTS (SELECT 1 FROM slices s WHERE s.batch_id = b.id AND s.state = 'queued'
              AND (s.not_before IS NULL OR s.not_before <= {now}))
ORDER BY b.priority DESC, b.expires_at IS NULL, b.expires_at,
         b.succeeded + b.failed - b.reused + (SELECT coalesce(sum(s.size), 0) FROM slices s
                                   WHERE s.batch_id = b.id AND s.state = 'leased'),
         b.created_at, b.id
LIMIT 32
"""

WAITING = """
SELECT DISTINCT b.pipeline, b.task, b.revision FROM batches b
WHERE b.pipeline IN :pipelines AND b.status = 'in_progress'
  AND EXISTS (SELECT 1 FROM slices s WHERE s.batch_id = b.id AND s.state = 'queued'
              AND (s.not_before IS NULL OR s.not_before <= {now}))
"""

# Two workers may meet an unsettled batch at once: the second finds the first's revision, and goes if it is another.
SETTLE = """
UPDATE batches SET model = :model, revision = :revision
WHERE id = :batch_id AND (revision IS NULL OR revision = :revision)
"""

# SKIP LOCKED: claimers pass one another; the CTE is materialised so that its LIMIT holds however the join runs.
LEASE = """
WITH picked AS MATERIALIZED (
    SELECT id FROM slices
    WHERE batch_id = :batch_id AND state = 'queued' AND (not_before IS NULL OR not_before <= {now})
      AND (deaths >= :suspect_deaths OR lapses >= :suspect_lapses) = :suspect
    ORDER BY id LIMIT :most {skip_locked}
)
UPDATE slices SET state = 'leased', worker_id = :worker_id, token = token + 1, attempts = attempts + 1,
       claimed_at = coalesce(claimed_at, {now}), leased_at = {now}, lease_expires_at = {later}
WHERE id IN (SELECT id FROM picked)
RETURNING id, first, size, token, attempts, deaths, lapses, retries
"""

PENDING = """
SELECT j.position, j.input FROM jobs j
WHERE j.batch_id = :batch_id AND j.position >= :first AND j.position < :end
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position)
ORDER BY j.position
"""

# Leased to us, and we never heard of it: the connection broke after the commit.
RELEASE_STRAYS = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, attempts = attempts - 1
WHERE worker_id = :worker_id AND state = 'leased' AND id NOT IN :held
"""


def take(database: Database, claimant: Claimant, room: int, slice_jobs: int, *, suspect: bool = False) -> list[Lease]:
    """Lease slices of about `room` jobs, at least one slice when there is work; empty when there is none.

    With `suspect` one slice over which workers died, and nothing else. One short transaction for each batch: settling
    may wait for that batch's row, and must not while holding slices.
    """
    with database.read() as connection:
        query = text(_sql(CANDIDATES, database.sql)).columns(
            column("id"), column("revision"), column("parameters", Document), column("max_attempts")
        )
        found = connection.execute(
            query, {"pipeline": claimant.pipeline, "task": claimant.task, "revision": claimant.revision}
        ).all()
    leases: list[Lease] = []
    for batch in found:
        most = 1 - len(leases) if suspect else -(-(room - sum(lease.size for lease in leases)) // slice_jobs)
        if most <= 0:
            break
        try:
            with database.write() as connection:
                if batch.revision is not None or _settle(connection, claimant, batch.id):
                    leases += _lease(connection, database.sql, claimant, batch, most, suspect=suspect)
        except Unreachable:
            if not leases:
                raise
            break  # what was leased before is ours to work on
    return leases


def waiting(database: Database, pipelines: Sequence[str]) -> list[Row[Any]]:
    """`(pipeline, task, revision)` of each kind of batch that has slices to claim now, of these pipelines."""
    query = text(_sql(WAITING, database.sql)).bindparams(bindparam("pipelines", expanding=True))
    with database.read() as connection:
        return list(connection.execute(query, {"pipelines": pipelines}))


def pending(database: Database, leases: Iterable[Lease]) -> list[Job]:
    """The jobs of these slices that have no result yet: what was committed is never computed again."""
    query = text(PENDING).columns(column("position"), column("input", Document))
    with database.read() as connection:
        return [
            Job(lease, position, document)
            for lease in leases
            for position, document in connection.execute(
                query, {"batch_id": lease.batch_id, "first": lease.first, "end": lease.first + lease.size}
            )
        ]


def renew(connection: Connection, sql: Fragments, leases: Sequence[Lease], lease_seconds: float) -> list[Lease]:
    """Prolong these leases; returns the ones that are somebody else's now, but not what we closed ourselves."""
    # By id, as every writer of several slices goes, so that two never wait for each other.
    ordered = sorted(leases, key=lambda lease: lease.slice_id)
    return [lease for lease in ordered if not slices.renew(connection, sql, lease, lease_seconds)]


def release(connection: Connection, leases: Sequence[Lease]) -> list[Lease]:
    """Give these slices back at once; returns the ones that were still ours."""
    ordered = sorted(leases, key=lambda lease: lease.slice_id)
    return [lease for lease in ordered if slices.release(connection, lease)]


def release_strays(connection: Connection, worker_id: str, held: Sequence[Lease]) -> int:
    """Give back what is leased to us without our knowing; returns how many slices. Only for the thread that claims."""
    query = text(RELEASE_STRAYS).bindparams(bindparam("held", expanding=True))
    named = {"worker_id": worker_id, "held": [lease.slice_id for lease in held]}
    return connection.execute(query, named).rowcount


def _settle(connection: Connection, claimant: Claimant, batch_id: str) -> bool:
    named = {"batch_id": batch_id, "model": claimant.model, "revision": claimant.revision}
    return connection.execute(text(SETTLE), named).rowcount == 1


def _lease(
    connection: Connection, sql: Fragments, claimant: Claimant, batch: Row[Any], most: int, *, suspect: bool
) -> list[Lease]:
    rows = connection.execute(
        text(_sql(LEASE, sql)),
        {
            "batch_id": batch.id, "most": most, "worker_id": claimant.worker_id, "seconds": claimant.lease_seconds,
            "suspect": suspect, "suspect_deaths": SUSPECT_DEATHS, "suspect_lapses": SUSPECT_LAPSES,
        },
    )  # fmt: skip
    leased = [
        Lease(
            row.id, batch.id, row.first, row.size, row.token, row.attempts, batch.parameters, row.deaths, row.lapses,
            row.retries, batch.max_attempts,
        )
        for row in rows
    ]  # fmt: skip
    return sorted(leased, key=lambda lease: lease.slice_id)


def _sql(query: str, sql: Fragments) -> str:
    return query.format(now=sql.now, later=sql.later, skip_locked=sql.skip_locked)
