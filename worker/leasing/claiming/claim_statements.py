"""The SQL of one claim. One index holds the claim order; slices are selected from it and leased in one statement.

Lock order: batches by id, to set their revision, before any slice; tenants' turns last. No claim ever waits for a
slice.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, bindparam, text

from models.db import Database
from models.dialects.columns import Document, UtcDateTime
from models.dialects.fragments import SQL_FRAGMENTS
from models.documents import to_json
from models.lifecycle import claim_order
from worker.leasing.claiming import tenant_turns
from worker.leasing.claiming.tenant_turns import Turn

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

# Highest priority, nearest deadline, batch served least, oldest batch.
CLAIM_ORDER = ", ".join(claim_order.CLAIM_ORDER_COLUMNS)

SLICE_COLUMNS = ", ".join(
    f"slices.{name}" for name in ("id", "batch_id", "tenant", "size", "priority_rank", "deadline_ms", "leased_at")
)

SLICES_OF_BATCH = "SELECT id, size FROM slices WHERE {claimable} ORDER BY id LIMIT :most {skip_locked}"

# One tenant after the other, in claim order within each. Both databases go through the tenants in the given order, and
# stop at the limit, so that only what is taken is read. SQLite has no LATERAL; the index gives the order.
SLICES_OF_TENANTS = {
    "postgresql": f"""
SELECT {{columns}} FROM jsonb_array_elements_text(CAST(:tenants AS jsonb)) AS turns(tenant) CROSS JOIN LATERAL (
    SELECT * FROM slices WHERE {{claimable}} ORDER BY {CLAIM_ORDER} LIMIT :most {{skip_locked}}) AS slices
LIMIT :most
""",  # noqa: S608
    "sqlite": """
SELECT {columns} FROM json_each(:tenants) AS turns CROSS JOIN slices INDEXED BY {index}
WHERE {claimable} LIMIT :most
""",
}

# The same for the first tenant by name, who is most often the only one.
SLICES_OF_FIRST_TENANT = f"""
SELECT {SLICE_COLUMNS}, (SELECT tenant FROM slices WHERE {{which}} AND pipeline = :pipeline
                         ORDER BY tenant DESC LIMIT 1) AS last_tenant
FROM slices WHERE {{claimable}} ORDER BY {CLAIM_ORDER} LIMIT :most
"""  # noqa: S608
OF_FIRST_TENANT = """
pipeline = :pipeline
AND tenant = (SELECT tenant FROM slices WHERE {which} AND pipeline = :pipeline ORDER BY tenant LIMIT 1)
"""

# A slice of a retry is a range with few jobs to run in it. Bounded on both sides, so that only its range is read.
COUNT_UNANSWERED_JOBS = """
SELECT count(*) FROM jobs j
WHERE j.batch_id = :batch_id AND j.position >= :start_position AND j.position < :end_position
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position
                  AND r.position >= :start_position AND r.position < :end_position)
"""

IN_BATCH = "batch_id = :batch_id"
OF_TENANT = {
    "postgresql": "pipeline = :pipeline AND slices.tenant = turns.tenant",
    "sqlite": "pipeline = :pipeline AND slices.tenant = turns.value",
}

SELECT_CLAIMABLE_SLICES = """
SELECT picked.*, {now} AS now,
       (SELECT b.revision IS NULL FROM batches b WHERE b.id = picked.batch_id) AS unsettled
FROM ({slices}) AS picked
"""

# Two workers may set the revision of the same batches. The second one waits, then sees the first's revision, and leaves
# the batch if that is another one. Ordered by id, as in every transaction that locks several batches.
LOCK_BATCHES = "SELECT id FROM batches WHERE id IN :batch_ids ORDER BY id {for_update}"
SET_REVISION = "UPDATE batches SET model = :model, revision = :revision WHERE id IN :batch_ids AND revision IS NULL"

# SKIP LOCKED lets claims run side by side. The CTE is materialised so that its LIMIT holds with any join plan. Slices
# beyond the room are locked, but not leased.
LEASE_SLICES = """
WITH picked AS MATERIALIZED (
    SELECT id, size, row_number() OVER () AS place FROM ({slices}) AS locked
), kept AS MATERIALIZED (
    SELECT id FROM (SELECT id, sum(size) OVER (ORDER BY place) - size AS before FROM picked) AS filled
    WHERE before < :room
)
UPDATE slices SET state = 'leased', worker_id = :worker_id, fencing_token = fencing_token + 1, attempts = attempts + 1,
       first_claimed_at = coalesce(first_claimed_at, {now}), leased_at = {now}, lease_expires_at = {later}
WHERE {kept}
RETURNING id, batch_id, start_position, size, fencing_token, attempts, crashes, lost_leases, retries, tenant,
          priority_rank, deadline_ms, jobs_ahead, batch_created_ms, leased_at
"""

# With an array each id is looked up; for a join PostgreSQL may walk through all earlier slices.
IS_PICKED = {"postgresql": "id = ANY (ARRAY(SELECT id FROM kept))", "sqlite": "id IN (SELECT id FROM kept)"}

SELECT_BATCHES = """
SELECT id, parameters, max_attempts, in_progress_at, expires_at,
       EXISTS (SELECT 1 FROM superseded_results p WHERE p.batch_id = batches.id) AS was_retried
FROM batches WHERE id IN :batch_ids
"""


@dataclass(frozen=True, slots=True)
class ClaimableSlices:
    """The next slices, in the order in which a claim takes them, and the turns of all tenants that have any queued."""

    rows: Sequence[Row[Any]]
    turns: Sequence[Turn]


def select_claimable_slices(
    database: Database, claimant: "Claimant", kind_condition: str, max_jobs: int = 1, slice_size: int = 1
) -> ClaimableSlices:
    """Select the next slices in claim order, without locks.

    kind_condition: SQL for ordinary or for quarantined slices.
    max_jobs: select about as many slices as have this many jobs.
    slice_size: jobs of a usual slice.
    """
    selection = _Selection(claimant, kind_condition, max_jobs, slice_size)
    with database.read() as connection:
        rows = selection.of_first_tenant(connection)
        if rows and rows[0].tenant == rows[0].last_tenant:
            return ClaimableSlices(rows, (Turn(rows[0].tenant, 0),))
        turns = tenant_turns.select_turns(connection, claimant.pipeline, kind_condition)
        if len(turns) < 2:
            return ClaimableSlices(rows, turns)
        return ClaimableSlices(selection.in_turn(connection, turns), turns)


@dataclass(frozen=True, slots=True)
class _Selection:
    """The parameters of `select_claimable_slices`."""

    claimant: "Claimant"
    kind_condition: str
    max_jobs: int
    slice_size: int

    def of_first_tenant(self, connection: Connection) -> Sequence[Row[Any]]:
        scope = OF_FIRST_TENANT.format(which=self.kind_condition)
        claimable = _claimable(connection, scope, self.kind_condition)
        slices = SLICES_OF_FIRST_TENANT.format(which=self.kind_condition, claimable=claimable)
        return self._select(connection, slices, {})

    def in_turn(self, connection: Connection, turns: Sequence[Turn]) -> Sequence[Row[Any]]:
        slices = _slices_of_tenants(connection, SLICE_COLUMNS, self.kind_condition, skip_locked="")
        return self._select(connection, slices, _tenant_parameters(turns))

    def _select(self, connection: Connection, slices: str, scope: Mapping[str, Any]) -> Sequence[Row[Any]]:
        sql = SQL_FRAGMENTS[connection.dialect.name]
        query = text(SELECT_CLAIMABLE_SLICES.format(slices=slices, now=sql.now))
        typed = claim_order.bind_guards(query).columns(leased_at=UtcDateTime, now=UtcDateTime)
        params = {**_claimant_parameters(self.claimant), "unsettled": self.claimant.can_begin_batches, **scope}
        expected_count = min(MAX_SLICES, -(-self.max_jobs // self.slice_size))
        rows = connection.execute(typed, {**params, "most": expected_count}).all()
        if len(rows) == expected_count < MAX_SLICES and sum(row.size for row in rows) < self.max_jobs:  # small slices
            rows = connection.execute(typed, {**params, "most": MAX_SLICES}).all()
        return rows


class ClaimTransaction:
    """The statements of one claim inside its transaction.

    kind_condition: SQL for ordinary or for quarantined slices.
    turns: the tenants with such slices, the next one first.
    """

    def __init__(
        self, connection: Connection, claimant: "Claimant", kind_condition: str, turns: Sequence[Turn]
    ) -> None:
        self._connection = connection
        self._sql = SQL_FRAGMENTS[connection.dialect.name]
        self._claimant = claimant
        self._kind_condition = kind_condition
        self._turns = turns

    def set_revision(self, batch_ids: Collection[str]) -> None:
        """Set the claimant's revision on the batches that have none yet; call it before any slice is locked."""
        if not batch_ids:
            return
        params = {"batch_ids": sorted(batch_ids), "model": self._claimant.model, "revision": self._claimant.revision}
        for statement in (LOCK_BATCHES.format(for_update=self._sql.for_update), SET_REVISION):
            self._connection.execute(text(statement).bindparams(bindparam("batch_ids", expanding=True)), params)

    def lease_from_batch(self, batch_id: str, max_slices: int, max_jobs: int) -> list[Row[Any]]:
        """Lease up to `max_slices` slices of this batch, until they have `max_jobs`."""
        claimable = _claimable(self._connection, IN_BATCH, self._kind_condition)
        slices = SLICES_OF_BATCH.format(claimable=claimable, skip_locked=self._sql.skip_locked)
        return self._lease_slices(slices, {"batch_id": batch_id, "most": max_slices, "room": max_jobs})

    def lease_from_any_batch(self, max_slices: int, max_jobs: int) -> list[Row[Any]]:
        """Lease up to `max_slices` slices, tenant by tenant in claim order, until they have `max_jobs`."""
        skip_locked = self._sql.skip_locked
        slices = _slices_of_tenants(self._connection, "slices.id, slices.size", self._kind_condition, skip_locked)
        return self._lease_slices(slices, {**_tenant_parameters(self._turns), "most": max_slices, "room": max_jobs})

    def select_batches(self, rows: Sequence[Row[Any]]) -> Mapping[str, Row[Any]]:
        """Return the parameters, limits and times of these rows' batches, by id."""
        if not rows:
            return {}
        query = text(SELECT_BATCHES).bindparams(bindparam("batch_ids", expanding=True))
        typed = query.columns(parameters=Document, in_progress_at=UtcDateTime, expires_at=UtcDateTime)
        params = {"batch_ids": sorted({row.batch_id for row in rows})}
        return {batch.id: batch for batch in self._connection.execute(typed, params)}

    def record_turns(self, rows: Sequence[Row[Any]], slice_size: int) -> None:
        """Count the jobs of these rows as served to their tenants; the last statement, see `tenant_turns`.

        slice_size: jobs of a usual slice; in a larger one, those with a result are not counted
        """
        if len(self._turns) < 2:
            return
        leased = [(row.tenant, row.size if row.size <= slice_size else self._count_unanswered(row)) for row in rows]
        tenant_turns.record_turns(self._connection, self._claimant.pipeline, self._turns, leased)

    def _count_unanswered(self, row: Row[Any]) -> int:
        end = row.start_position + row.size
        params = {"batch_id": row.batch_id, "start_position": row.start_position, "end_position": end}
        return int(self._connection.scalar(text(COUNT_UNANSWERED_JOBS), params))

    def _lease_slices(self, slices: str, params: Mapping[str, Any]) -> list[Row[Any]]:
        kept = IS_PICKED[self._connection.dialect.name]
        statement = LEASE_SLICES.format(slices=slices, kept=kept, now=self._sql.now, later=self._sql.now_plus_seconds)
        values = {
            **_claimant_parameters(self._claimant),
            "unsettled": False,
            "worker_id": self._claimant.worker_id,
            "seconds": self._claimant.lease_seconds,
            **params,
        }
        query = claim_order.bind_guards(text(statement))
        leased = self._connection.execute(query.columns(leased_at=UtcDateTime), values)
        places = {turn.tenant: place for place, turn in enumerate(self._turns)}
        return sorted(leased, key=lambda row: _place_in_order(places, row))


def _place_in_order(places: Mapping[str, int], row: Row[Any]) -> tuple[int, ...]:
    place = places.get(row.tenant, -1)  # a tenant that came after the turns were read has the batch that is next
    return place, row.priority_rank, row.deadline_ms, row.jobs_ahead, row.batch_created_ms, row.id


def _claimant_parameters(claimant: "Claimant") -> dict[str, Any]:
    return {
        "pipeline": claimant.pipeline,
        "task": claimant.task,
        "revision": claimant.revision,
        "guards": claim_order.guard_keys(claimant.pipeline, claimant.guards),
    }


def _tenant_parameters(turns: Iterable[Turn]) -> dict[str, str]:
    return {"tenants": to_json([turn.tenant for turn in turns])}


def _claimable(connection: Connection, scope_condition: str, kind_condition: str) -> str:
    now = SQL_FRAGMENTS[connection.dialect.name].now
    return IS_CLAIMABLE.format(whose=scope_condition, which=kind_condition, now=now)


def _slices_of_tenants(connection: Connection, columns: str, kind_condition: str, skip_locked: str) -> str:
    dialect = connection.dialect.name
    return SLICES_OF_TENANTS[dialect].format(
        columns=columns,
        claimable=_claimable(connection, OF_TENANT[dialect], kind_condition),
        index=claim_order.INDEXES[kind_condition],
        skip_locked=skip_locked,
    )
