"""Claims let a worker take, renew and release slices. SQL decides, by the database's clock.

Lock order, here and in `commit.py`: the batch's row first, then its slices. A claim locks a batch only to set its
revision, before it touches a slice, and tenants' turns last.
"""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, TextualSelect, column, text

from models.db import Database
from models.dialects.columns import Document
from models.dialects.fragments import SQL_FRAGMENTS, SqlFragments, comma_separated
from models.documents import to_json
from models.lifecycle import claim_order, slices
from models.pipelines.options.prompt_template import PromptTemplate, split_parameters
from worker.leasing.chunking import split_into_chunks
from worker.leasing.claiming import tenant_turns
from worker.leasing.claiming.claim_statements import (
    MAX_SLICES,
    ClaimableSlices,
    ClaimTransaction,
    select_claimable_slices,
)
from worker.leasing.claiming.quarantine_turns import QuarantinedSlice
from worker.leasing.leases import Claimant, Job, JobSize, Lease, SliceRange
from worker.leasing.redacted_inputs import INPUT_TO_READ

# Both jobs and results are bounded by the slice's positions, so that every plan reads only those.
UNANSWERED_JOBS = """
jobs j WHERE j.batch_id = l.batch_id AND j.position >= l.start_position AND j.position < l.end_position
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position
                  AND r.position >= l.start_position AND r.position < l.end_position)
"""

READ_CHUNK_JOBS = 4096  # input sizes that are read at once

FETCH_ROWS = 256  # inputs that are fetched at once; one by one would take a fifth longer on PostgreSQL

# One query for all ranges; the lateral join looks up each range separately.
SELECT_UNANSWERED_JOBS = {
    "postgresql": """
SELECT l.number, j.position, j.size {input_column}
FROM jsonb_to_recordset(CAST(:ranges AS jsonb))
     AS l(number bigint, batch_id text, start_position bigint, end_position bigint)
CROSS JOIN LATERAL (SELECT j.position, {input_to_read} AS input, {size} AS size FROM {open} OFFSET 0) AS j
ORDER BY l.number, j.position
""",
    "sqlite": """
WITH l AS MATERIALIZED (
    SELECT json_extract(value, '$.number') AS number, json_extract(value, '$.batch_id') AS batch_id,
           json_extract(value, '$.start_position') AS start_position,
           json_extract(value, '$.end_position') AS end_position
    FROM json_each(:ranges)
)
SELECT l.number, j.position, {size} AS size {input_column} FROM l CROSS JOIN {open} ORDER BY l.number, j.position
""",
}

# PostgreSQL knows the size of a document without reading it, unless it is compressed.
INPUT_SIZE = {
    "postgresql": """CASE WHEN pg_column_compression({input_to_read}) IS NULL THEN pg_column_size({input_to_read})
                     ELSE octet_length(CAST({input_to_read} AS text)) END""",
    "sqlite": "length(CAST({input_to_read} AS BLOB))",
}

INPUT_COLUMN = {"postgresql": ", j.input", "sqlite": f", {INPUT_TO_READ} AS input"}

# Slices that a claim leased although its connection broke after the commit. Locked by id, as everywhere.
RELEASE_UNKNOWN_CLAIMS = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, attempts = attempts - 1
WHERE id IN (SELECT id FROM slices WHERE worker_id = :worker_id AND state = 'leased' AND NOT id {in_numbers}
             ORDER BY id {for_update})
"""


def claim(
    database: Database, claimant: Claimant, max_jobs: int, slice_size: int, *, from_quarantine: bool = False
) -> list[Lease]:
    """Lease slices: first of the batch that is next, then in claim order; empty when there are none.

    Where several tenants have work, the one that was served least is next, and the others get the room that it leaves.

    max_jobs: about as many jobs are leased, but at least one slice.
    slice_size: jobs of a usual slice.
    from_quarantine: lease one quarantined slice, and nothing else.

    Raises Unreachable when the connection breaks; then the claim may have been committed.
    """
    kind_condition = claim_order.QUEUED_QUARANTINED if from_quarantine else claim_order.QUEUED_ORDINARY
    if max_jobs <= 0:
        return []
    candidates = select_claimable_slices(database, claimant, kind_condition, max_jobs, slice_size)
    if not candidates.rows:
        return []
    max_slices = min(MAX_SLICES, max(len(candidates.rows), -(-max_jobs // slice_size)))
    with database.write() as connection:
        transaction = ClaimTransaction(connection, claimant, kind_condition, candidates.turns)
        transaction.set_revision({row.batch_id for row in candidates.rows if row.unsettled})
        if from_quarantine:
            rows = transaction.lease_from_any_batch(1, max_jobs)
        else:
            rows = transaction.lease_from_batch(candidates.rows[0].batch_id, max_slices, max_jobs)
            jobs_left = max_jobs - sum(row.size for row in rows)
            if jobs_left > 0 and len(rows) < max_slices:
                rows += transaction.lease_from_any_batch(max_slices - len(rows), jobs_left)
        batches = transaction.select_batches(rows)
        transaction.record_turns(rows, slice_size)
    recipes = {batch_id: split_parameters(batch.parameters) for batch_id, batch in batches.items()}
    return [_to_lease(row, batches[row.batch_id], *recipes[row.batch_id]) for row in rows]


def next_quarantined(database: Database, claimant: Claimant) -> QuarantinedSlice | None:
    """Return the next quarantined slice, compared with ordinary work; None without any."""
    with database.read() as connection:
        if not tenant_turns.is_any_queued(connection, claimant.pipeline, claim_order.QUEUED_QUARANTINED):
            return None
    quarantined = select_claimable_slices(database, claimant, claim_order.QUEUED_QUARANTINED)
    if not quarantined.rows:
        return None
    ordinary = select_claimable_slices(database, claimant, claim_order.QUEUED_ORDINARY)
    first = quarantined.rows[0]
    return QuarantinedSlice(
        goes_first=not ordinary.rows or _precedes(first, ordinary),
        waiting_seconds=math.inf if first.leased_at is None else (first.now - first.leased_at).total_seconds(),
    )


def _precedes(quarantined: Row[Any], ordinary: ClaimableSlices) -> bool:
    """Whether priority or deadline put a quarantined slice first, which they never do over other tenants' work."""
    first = ordinary.rows[0]
    is_alone = all(turn.tenant == quarantined.tenant for turn in ordinary.turns)
    return is_alone and (quarantined.priority_rank, quarantined.deadline_ms) < (first.priority_rank, first.deadline_ms)


def unanswered_job_sizes(database: Database, leases: Iterable[Lease]) -> list[JobSize]:
    """Return the jobs of these slices that have no result yet, without inputs, in the order of leases and positions.

    It reads a few slices at a time, so that the heartbeat, which shares the connection, can run in between.
    """
    return [
        size
        for chunk in split_into_chunks(leases, lambda lease: lease.size, READ_CHUNK_JOBS)
        for size in _select_job_sizes(database, chunk)
    ]


def _select_job_sizes(database: Database, leases: Sequence[Lease]) -> list[JobSize]:
    ranges = [SliceRange(lease, lease.start_position, lease.start_position + lease.size) for lease in leases]
    with database.read() as connection:
        rows = connection.execute(_unanswered_jobs_query(database, with_inputs=False), _range_params(ranges))
        return [JobSize(ranges[number].lease, position, size) for number, position, size in rows.all()]


def read_inputs(database: Database, ranges: Sequence[SliceRange]) -> list[Job]:
    """Return the jobs of these ranges that have no result yet, in order."""
    query = _unanswered_jobs_query(database, with_inputs=True)
    with database.read() as connection:
        return [
            Job(ranges[number].lease, position, document, size)
            for rows in connection.execute(query, _range_params(ranges)).partitions(FETCH_ROWS)
            for number, position, size, document in rows
        ]


def renew(connection: Connection, sql: SqlFragments, leases: Sequence[Lease], lease_seconds: float) -> list[Lease]:
    """Renew these leases; returns the ones that were lost, but not those of slices that this process finished."""
    # By id, as in every transaction that writes several slices, so that two never wait for each other.
    ordered = sorted(leases, key=lambda lease: lease.slice_id)
    return [lease for lease in ordered if not slices.renew_lease(connection, sql, lease, lease_seconds)]


def release(connection: Connection, leases: Sequence[Lease]) -> list[Lease]:
    """Release these slices; returns the leases that were still held."""
    ordered = sorted(leases, key=lambda lease: lease.slice_id)
    return [lease for lease in ordered if slices.release(connection, lease)]


def release_unknown_claims(connection: Connection, worker_id: str, held_leases: Sequence[Lease]) -> int:
    """Release this worker's slices that it doesn't know of, and return their number; only for the claim thread."""
    sql = SQL_FRAGMENTS[connection.dialect.name]
    query = text(RELEASE_UNKNOWN_CLAIMS.format(for_update=sql.for_update, in_numbers=sql.in_numbers))
    params = {"worker_id": worker_id, "numbers": comma_separated(lease.slice_id for lease in held_leases)}
    return connection.execute(query, params).rowcount


def _unanswered_jobs_query(database: Database, *, with_inputs: bool) -> TextualSelect:
    dialect = database.engine.dialect.name
    query = SELECT_UNANSWERED_JOBS[dialect].format(
        open=UNANSWERED_JOBS,
        size=INPUT_SIZE[dialect].format(input_to_read=INPUT_TO_READ),
        input_to_read=INPUT_TO_READ,
        input_column=INPUT_COLUMN[dialect] if with_inputs else "",
    )
    input_columns = [column("input", Document)] if with_inputs else []
    return text(query).columns(column("number"), column("position"), column("size"), *input_columns)


def _range_params(ranges: Iterable[SliceRange]) -> dict[str, str]:
    documents = [
        {
            "number": number,
            "batch_id": slice_range.lease.batch_id,
            "start_position": slice_range.start_position,
            "end_position": slice_range.end_position,
        }
        for number, slice_range in enumerate(ranges)
    ]
    return {"ranges": to_json(documents)}


def _to_lease(row: Row[Any], batch: Row[Any], parameters: dict[str, Any], prompt: PromptTemplate | None) -> Lease:
    return Lease(
        row.id,
        row.batch_id,
        row.start_position,
        row.size,
        row.fencing_token,
        row.attempts,
        parameters,
        row.crashes,
        row.lost_leases,
        row.retries,
        batch.max_attempts,
        prompt,
        _queued_seconds(row, batch),
        batch.expires_at and time.monotonic() + (batch.expires_at - row.leased_at).total_seconds(),
    )


def _queued_seconds(row: Row[Any], batch: Row[Any]) -> float | None:
    if row.attempts > 1 or batch.was_retried or batch.in_progress_at is None:  # its new slices did not wait since then
        return None
    return max(0.0, float((row.leased_at - batch.in_progress_at).total_seconds()))
