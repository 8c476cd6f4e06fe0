"""Leasing: the statements of one claim. One index holds whose turn it is; what is taken from it is leased in one go.

Lock order: batches by id, to settle their revision, before any slice. No claim ever waits for a slice.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, bindparam, column, text

from models.columns import Document, UtcDateTime
from models.db import Database, SqlFragments
from models.lifecycle import claim_order

if TYPE_CHECKING:
    from worker.leasing.leases import Claimant

MAX_SLICES = 640  # of one claim: leasing takes some 0.08 ms each, and nobody should wait for a claim much longer

# A subquery for each row, and no join, for which PostgreSQL might hash all batches or sort all slices.
IS_CLAIMABLE = """
{whose} AND {which} AND (not_before IS NULL OR not_before <= {now})
  AND (SELECT b.status = 'in_progress' AND b.task = :task AND (b.expires_at IS NULL OR b.expires_at > {now})
              AND (b.revision = :revision OR (:unsettled AND b.revision IS NULL))
       FROM batches b WHERE b.id = slices.batch_id)
"""
IN_PIPELINE, IN_BATCH = "pipeline = :pipeline", "batch_id = :batch_id"

# Highest priority, nearest deadline, the slice with the least of its batch served before it, the oldest batch.
CLAIM_ORDER = ", ".join(claim_order.CLAIM_ORDER_COLUMNS)

SELECT_CLAIMABLE_SLICES = """
SELECT id, batch_id, size, rank, due, leased_at, {now} AS now,
       (SELECT b.revision IS NULL FROM batches b WHERE b.id = slices.batch_id) AS unsettled
FROM slices WHERE {claimable} ORDER BY {order} LIMIT :most
"""

# Two workers may meet unsettled batches at once: the second waits, then finds the first's revision, and goes if it is
# another. By id, as everybody locks several batches.
LOCK_BATCHES = "SELECT id FROM batches WHERE id IN :batch_ids ORDER BY id {for_update}"
SET_REVISION = "UPDATE batches SET model = :model, revision = :revision WHERE id IN :batch_ids AND revision IS NULL"

# SKIP LOCKED: claimers pass one another; the CTE is materialised so that its LIMIT holds however the join runs. What
# goes beyond the room is locked, and left.
LEASE_SLICES = """
WITH picked AS MATERIALIZED (
    SELECT id, size, row_number() OVER () AS place FROM (
        SELECT id, size FROM slices WHERE {claimable} ORDER BY {order} LIMIT :most {skip_locked}) AS locked
), kept AS MATERIALIZED (
    SELECT id FROM (SELECT id, sum(size) OVER (ORDER BY place) - size AS before FROM picked) AS filled
    WHERE before < :room
)
UPDATE slices SET state = 'leased', worker_id = :worker_id, token = token + 1, attempts = attempts + 1,
       claimed_at = coalesce(claimed_at, {now}), leased_at = {now}, lease_expires_at = {later}
WHERE {kept}
RETURNING id, batch_id, first, size, token, attempts, deaths, lapses, retries, rank, due, ahead, since
"""

# As an array each is looked up; of a join PostgreSQL may make a walk through all slices before them.
IS_PICKED = {"postgresql": "id = ANY (ARRAY(SELECT id FROM kept))", "sqlite": "id IN (SELECT id FROM kept)"}

SELECT_BATCHES = "SELECT id, parameters, max_attempts FROM batches WHERE id IN :batch_ids"


def select_claimable_slices(
    database: Database, claimant: "Claimant", kind_condition: str, max_jobs: int = 1, slice_size: int = 1
) -> Sequence[Row[Any]]:
    """The next slices in the order of all, as many as fill the room; nothing is locked."""
    query = text(
        _format_statement(SELECT_CLAIMABLE_SLICES, database.sql, IN_PIPELINE, kind_condition, CLAIM_ORDER)
    ).columns(
        column("id"),
        column("batch_id"),
        column("size"),
        column("rank"),
        column("due"),
        column("leased_at", UtcDateTime),
        column("now", UtcDateTime),
        column("unsettled"),
    )
    named: dict[str, Any] = {"pipeline": claimant.pipeline, "task": claimant.task, "revision": claimant.revision}
    named["unsettled"] = claimant.can_begin_batches
    few = min(MAX_SLICES, -(-max_jobs // slice_size))
    with database.read() as connection:
        looked = connection.execute(query, {**named, "most": few}).all()
        if len(looked) == few < MAX_SLICES and sum(row.size for row in looked) < max_jobs:  # slices of few jobs
            looked = connection.execute(query, {**named, "most": MAX_SLICES}).all()
    return looked


class ClaimTransaction:
    """What one claim does inside its transaction, among the slices of one kind: ordinary or quarantined."""

    def __init__(self, connection: Connection, sql: SqlFragments, claimant: "Claimant", kind_condition: str) -> None:
        self._connection = connection
        self._sql = sql
        self._claimant = claimant
        self._kind_condition = kind_condition

    def set_revision(self, batch_ids: Collection[str]) -> None:
        """Have these batches be of our revision, unless they are of another by now. Before any slice is locked."""
        if not batch_ids:
            return
        named = {"batch_ids": sorted(batch_ids), "model": self._claimant.model, "revision": self._claimant.revision}
        for statement in (LOCK_BATCHES.format(for_update=self._sql.for_update), SET_REVISION):
            self._connection.execute(text(statement).bindparams(bindparam("batch_ids", expanding=True)), named)

    def lease_from_batch(self, batch_id: str, max_slices: int, max_jobs: int) -> list[Row[Any]]:
        """Lease up to so many slices of this batch, until the room is full."""
        return self._lease_slices(IN_BATCH, "id", {"batch_id": batch_id, "most": max_slices, "room": max_jobs})

    def lease_from_any_batch(self, max_slices: int, max_jobs: int) -> list[Row[Any]]:
        """Lease up to so many slices of whichever batches come next, until the room is full."""
        return self._lease_slices(
            IN_PIPELINE, CLAIM_ORDER, {"pipeline": self._claimant.pipeline, "most": max_slices, "room": max_jobs}
        )

    def select_batches(self, rows: Sequence[Row[Any]]) -> Mapping[str, Row[Any]]:
        """What the batches of these rows say of their jobs, by id."""
        if not rows:
            return {}
        query = text(SELECT_BATCHES).bindparams(bindparam("batch_ids", expanding=True))
        typed = query.columns(column("id"), column("parameters", Document), column("max_attempts"))
        named = {"batch_ids": sorted({row.batch_id for row in rows})}
        return {batch.id: batch for batch in self._connection.execute(typed, named)}

    def _lease_slices(self, scope_condition: str, order: str, params: Mapping[str, Any]) -> list[Row[Any]]:
        claimant = self._claimant
        lease = LEASE_SLICES.replace("{kept}", IS_PICKED[self._connection.dialect.name])
        query = text(_format_statement(lease, self._sql, scope_condition, self._kind_condition, order))
        values = {
            "task": claimant.task,
            "revision": claimant.revision,
            "unsettled": False,
            "worker_id": claimant.worker_id,
            "seconds": claimant.lease_seconds,
            **params,
        }
        leased = self._connection.execute(query, values)
        return sorted(leased, key=lambda row: (row.rank, row.due, row.ahead, row.since, row.id))


def _format_statement(query: str, sql: SqlFragments, scope_condition: str, kind_condition: str, order: str) -> str:
    claimable = IS_CLAIMABLE.format(whose=scope_condition, which=kind_condition, now=sql.now)
    return query.format(
        claimable=claimable, order=order, now=sql.now, later=sql.now_plus_seconds, skip_locked=sql.skip_locked
    )
