"""The SQL of one claim. One index holds the claim order; slices are selected from it and leased in one statement.

Lock order: batches by id, to set their revision, before any slice. No claim ever waits for a slice.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, TextClause, bindparam, column, text

from models.db import Database, SqlFragments
from models.dialects.columns import Document, UtcDateTime
from models.lifecycle import claim_order

if TYPE_CHECKING:
    from worker.leasing.leases import Claimant

MAX_SLICES = 640  # of one claim: leasing takes about 0.08 ms each, and other writers should not wait much longer

# A subquery for each row instead of a join, for which PostgreSQL might hash all batches or sort all slices.
IS_CLAIMABLE = f"""
{{whose}} AND {{which}} AND {claim_order.IS_AVAILABLE}
  AND (SELECT b.status = 'in_progress' AND b.task = :task AND (b.expires_at IS NULL OR b.expires_at > {{now}})
              AND (b.revision = :revision OR (:unsettled AND b.revision IS NULL))
              AND {claim_order.HAS_KNOWN_GUARDS}
       FROM batches b WHERE b.id = slices.batch_id)
"""  # noqa: S608
IN_PIPELINE, IN_BATCH = "pipeline = :pipeline", "batch_id = :batch_id"

# Highest priority, nearest deadline, batch served least, oldest batch.
CLAIM_ORDER = ", ".join(claim_order.CLAIM_ORDER_COLUMNS)

SELECT_CLAIMABLE_SLICES = """
SELECT id, batch_id, size, priority_rank, deadline_ms, leased_at, {now} AS now,
       (SELECT b.revision IS NULL FROM batches b WHERE b.id = slices.batch_id) AS unsettled
FROM slices WHERE {claimable} ORDER BY {order} LIMIT :most
"""

# Two workers may set the revision of the same batches. The second one waits, then sees the first's revision, and leaves
# the batch if that is another one. Ordered by id, as in every transaction that locks several batches.
LOCK_BATCHES = "SELECT id FROM batches WHERE id IN :batch_ids ORDER BY id {for_update}"
SET_REVISION = "UPDATE batches SET model = :model, revision = :revision WHERE id IN :batch_ids AND revision IS NULL"

# SKIP LOCKED lets claims run side by side. The CTE is materialised so that its LIMIT holds with any join plan. Slices
# beyond the room are locked, but not leased.
LEASE_SLICES = """
WITH picked AS MATERIALIZED (
    SELECT id, size, row_number() OVER () AS place FROM (
        SELECT id, size FROM slices WHERE {claimable} ORDER BY {order} LIMIT :most {skip_locked}) AS locked
), kept AS MATERIALIZED (
    SELECT id FROM (SELECT id, sum(size) OVER (ORDER BY place) - size AS before FROM picked) AS filled
    WHERE before < :room
)
UPDATE slices SET state = 'leased', worker_id = :worker_id, fencing_token = fencing_token + 1, attempts = attempts + 1,
       first_claimed_at = coalesce(first_claimed_at, {now}), leased_at = {now}, lease_expires_at = {later}
WHERE {kept}
RETURNING id, batch_id, start_position, size, fencing_token, attempts, crashes, lost_leases, retries, priority_rank,
          deadline_ms, jobs_ahead, batch_created_ms
"""

# With an array each id is looked up; for a join PostgreSQL may walk through all earlier slices.
IS_PICKED = {"postgresql": "id = ANY (ARRAY(SELECT id FROM kept))", "sqlite": "id IN (SELECT id FROM kept)"}

SELECT_BATCHES = "SELECT id, parameters, max_attempts FROM batches WHERE id IN :batch_ids"


def select_claimable_slices(
    database: Database, claimant: "Claimant", kind_condition: str, max_jobs: int = 1, slice_size: int = 1
) -> Sequence[Row[Any]]:
    """Select the next slices in claim order, without locks.

    max_jobs: select about as many slices as have this many jobs.
    slice_size: jobs of a usual slice.
    """
    query = _format_statement(SELECT_CLAIMABLE_SLICES, database.sql, IN_PIPELINE, kind_condition, CLAIM_ORDER).columns(
        column("id"),
        column("batch_id"),
        column("size"),
        column("priority_rank"),
        column("deadline_ms"),
        column("leased_at", UtcDateTime),
        column("now", UtcDateTime),
        column("unsettled"),
    )
    params: dict[str, Any] = {
        "pipeline": claimant.pipeline,
        "task": claimant.task,
        "revision": claimant.revision,
        "unsettled": claimant.can_begin_batches,
        "guards": claim_order.guard_keys(claimant.pipeline, claimant.guards),
    }
    expected_count = min(MAX_SLICES, -(-max_jobs // slice_size))
    with database.read() as connection:
        rows = connection.execute(query, {**params, "most": expected_count}).all()
        if len(rows) == expected_count < MAX_SLICES and sum(row.size for row in rows) < max_jobs:  # small slices
            rows = connection.execute(query, {**params, "most": MAX_SLICES}).all()
    return rows


class ClaimTransaction:
    """The statements of one claim inside its transaction.

    kind_condition: SQL for ordinary or for quarantined slices.
    """

    def __init__(self, connection: Connection, sql: SqlFragments, claimant: "Claimant", kind_condition: str) -> None:
        self._connection = connection
        self._sql = sql
        self._claimant = claimant
        self._kind_condition = kind_condition

    def set_revision(self, batch_ids: Collection[str]) -> None:
        """Set the claimant's revision on the batches that have none yet; call it before any slice is locked."""
        if not batch_ids:
            return
        params = {"batch_ids": sorted(batch_ids), "model": self._claimant.model, "revision": self._claimant.revision}
        for statement in (LOCK_BATCHES.format(for_update=self._sql.for_update), SET_REVISION):
            self._connection.execute(text(statement).bindparams(bindparam("batch_ids", expanding=True)), params)

    def lease_from_batch(self, batch_id: str, max_slices: int, max_jobs: int) -> list[Row[Any]]:
        """Lease up to `max_slices` slices of this batch, until they have `max_jobs`."""
        return self._lease_slices(IN_BATCH, "id", {"batch_id": batch_id, "most": max_slices, "room": max_jobs})

    def lease_from_any_batch(self, max_slices: int, max_jobs: int) -> list[Row[Any]]:
        """Lease up to `max_slices` slices in claim order, until they have `max_jobs`."""
        params = {"pipeline": self._claimant.pipeline, "most": max_slices, "room": max_jobs}
        return self._lease_slices(IN_PIPELINE, CLAIM_ORDER, params)

    def select_batches(self, rows: Sequence[Row[Any]]) -> Mapping[str, Row[Any]]:
        """Return the parameters and attempt limits of these rows' batches, by id."""
        if not rows:
            return {}
        query = text(SELECT_BATCHES).bindparams(bindparam("batch_ids", expanding=True))
        typed = query.columns(column("id"), column("parameters", Document), column("max_attempts"))
        params = {"batch_ids": sorted({row.batch_id for row in rows})}
        return {batch.id: batch for batch in self._connection.execute(typed, params)}

    def _lease_slices(self, scope_condition: str, order: str, params: Mapping[str, Any]) -> list[Row[Any]]:
        claimant = self._claimant
        statement = LEASE_SLICES.replace("{kept}", IS_PICKED[self._connection.dialect.name])
        query = _format_statement(statement, self._sql, scope_condition, self._kind_condition, order)
        values = {
            "task": claimant.task,
            "revision": claimant.revision,
            "unsettled": False,
            "guards": claim_order.guard_keys(claimant.pipeline, claimant.guards),
            "worker_id": claimant.worker_id,
            "seconds": claimant.lease_seconds,
            **params,
        }
        leased = self._connection.execute(query, values)
        return sorted(
            leased, key=lambda row: (row.priority_rank, row.deadline_ms, row.jobs_ahead, row.batch_created_ms, row.id)
        )


def _format_statement(
    query: str, sql: SqlFragments, scope_condition: str, kind_condition: str, order: str
) -> TextClause:
    claimable = IS_CLAIMABLE.format(whose=scope_condition, which=kind_condition, now=sql.now)
    statement = query.format(
        claimable=claimable, order=order, now=sql.now, later=sql.now_plus_seconds, skip_locked=sql.skip_locked
    )
    return claim_order.bind_guards(text(statement))
