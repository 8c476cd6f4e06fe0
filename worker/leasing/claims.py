"""Claims: which slices a worker takes, keeps and gives back. SQL decides, by its own clock.

Lock order, here and in `commit.py`: the batch's row first, then its slices. A claim locks a batch only to settle its
revision, before it touches a slice.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, TextualSelect, bindparam, column, text

from models.columns import Document
from models.db import SQL_FRAGMENTS, Database, SqlFragments, comma_separated
from models.documents import to_json
from models.lifecycle import claim_order, slices
from worker.leasing.chunking import split_into_chunks
from worker.leasing.claim_statements import MAX_SLICES, ClaimTransaction, select_claimable_slices
from worker.leasing.leases import Claimant, Job, JobSize, Lease, SliceRange
from worker.leasing.quarantine_turns import QuarantinedSlice

IS_CLAIMABLE_OF_KIND = """
pipeline = kinds.pipeline AND (not_before IS NULL OR not_before <= {now})
AND (SELECT b.status = 'in_progress' AND b.task = kinds.task
            AND coalesce(b.revision, '') = coalesce(kinds.revision, '') FROM batches b WHERE b.id = slices.batch_id)
"""

SELECT_CLAIMABLE_PIPELINES = """
WITH kinds AS MATERIALIZED (
    SELECT DISTINCT pipeline, task, revision FROM batches WHERE status = 'in_progress' AND pipeline IN :pipelines
)
SELECT pipeline, task, revision FROM kinds WHERE {any_claimable}
"""

# Bounded on both sides, jobs and results: a slice reads its own places, whichever way it is planned.
UNANSWERED_JOBS = """
jobs j WHERE j.batch_id = l.batch_id AND j.position >= l.first AND j.position < l.past
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position
                  AND r.position >= l.first AND r.position < l.past)
"""

READ_CHUNK_JOBS = 4096  # the sizes of whose inputs are read at once

# All slices in one query, each looked up by itself.
SELECT_UNANSWERED_JOBS = {
    "postgresql": """
SELECT l.number, j.position, j.size {input}
FROM jsonb_to_recordset(CAST(:stretches AS jsonb)) AS l(number bigint, batch_id text, first bigint, past bigint)
CROSS JOIN LATERAL (SELECT j.position, j.input, {size} AS size FROM {open} OFFSET 0) AS j
ORDER BY l.number, j.position
""",
    "sqlite": """
WITH l AS MATERIALIZED (
    SELECT json_extract(value, '$.number') AS number, json_extract(value, '$.batch_id') AS batch_id,
           json_extract(value, '$.first') AS first, json_extract(value, '$.past') AS past FROM json_each(:stretches)
)
SELECT l.number, j.position, {size} AS size {input} FROM l CROSS JOIN {open} ORDER BY l.number, j.position
""",
}

# PostgreSQL knows how large a document is without reading it, unless it was compressed.
INPUT_SIZE = {
    "postgresql": """CASE WHEN pg_column_compression(j.input) IS NULL THEN pg_column_size(j.input)
                     ELSE octet_length(CAST(j.input AS text)) END""",
    "sqlite": "length(CAST(j.input AS BLOB))",
}

# Leased to us, and we never heard of it: the connection broke after the commit. Locked by id, as everywhere.
RELEASE_UNKNOWN_CLAIMS = """
UPDATE slices SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, attempts = attempts - 1
WHERE id IN (SELECT id FROM slices WHERE worker_id = :worker_id AND state = 'leased' AND NOT id {in_numbers}
             ORDER BY id {for_update})
"""


def claim(
    database: Database, claimant: Claimant, max_jobs: int, slice_size: int, *, from_quarantine: bool = False
) -> list[Lease]:
    """Lease slices of about `room` jobs, at least one slice when there is work; empty when there is none.

    First of the batch whose turn it is, then in the order of all. With `suspect` one quarantined slice, and nothing
    else. One transaction: where its commit is in doubt it raises, and nothing is known of any lease.
    """
    which = claim_order.QUEUED_QUARANTINED if from_quarantine else claim_order.QUEUED_ORDINARY
    looked = [] if max_jobs <= 0 else select_claimable_slices(database, claimant, which, max_jobs, slice_size)
    if not looked:
        return []
    most = min(MAX_SLICES, max(len(looked), -(-max_jobs // slice_size)))
    with database.write() as connection:
        leasing = ClaimTransaction(connection, database.sql, claimant, which)
        leasing.set_revision({row.batch_id for row in looked if row.unsettled})
        rows = (
            leasing.lease_from_any_batch(1, max_jobs)
            if from_quarantine
            else leasing.lease_from_batch(looked[0].batch_id, most, max_jobs)
        )
        left = max_jobs - sum(row.size for row in rows)
        if not from_quarantine and left > 0 and len(rows) < most:
            rows += leasing.lease_from_any_batch(most - len(rows), left)
        batches = leasing.select_batches(rows)
    return [_to_lease(row, batches[row.batch_id]) for row in rows]


def next_quarantined(database: Database, claimant: Claimant) -> QuarantinedSlice | None:
    """The quarantined slice whose turn it is among its kind, as it stands beside ordinary work; None where none is."""
    looked = select_claimable_slices(database, claimant, claim_order.QUEUED_QUARANTINED)
    if not looked:
        return None
    ordinary = select_claimable_slices(database, claimant, claim_order.QUEUED_ORDINARY)
    first, now, since = looked[0], looked[0].now, looked[0].leased_at
    return QuarantinedSlice(
        goes_first=not ordinary or (first.rank, first.due) < (ordinary[0].rank, ordinary[0].due),
        waiting_seconds=math.inf if since is None else (now - since).total_seconds(),
    )


def claimable_pipelines(database: Database, pipelines: Sequence[str]) -> list[Row[Any]]:
    """`(pipeline, task, revision)` of each kind of batch that has slices to claim now, of these pipelines."""
    any_claimable = claim_order.any_queued_slice(IS_CLAIMABLE_OF_KIND.format(now=database.sql.now))
    query = text(SELECT_CLAIMABLE_PIPELINES.format(any_claimable=any_claimable)).bindparams(
        bindparam("pipelines", expanding=True)
    )
    with database.read() as connection:
        return list(connection.execute(query, {"pipelines": pipelines}))


def unanswered_job_sizes(database: Database, leases: Iterable[Lease]) -> list[JobSize]:
    """The jobs of these slices that have no result yet, without their inputs; in the order of leases and positions.

    What was committed is never computed again.

    Read a few slices at a time, so that the heartbeat, which shares the connection, has its turn in between.
    """
    return [
        size
        for some in split_into_chunks(leases, lambda lease: lease.size, READ_CHUNK_JOBS)
        for size in _select_job_sizes(database, some)
    ]


def _select_job_sizes(database: Database, leases: Sequence[Lease]) -> list[JobSize]:
    whole = [SliceRange(lease, lease.start_position, lease.start_position + lease.size) for lease in leases]
    with database.read() as connection:
        rows = connection.execute(_unanswered_jobs_query(database, with_inputs=False), _range_params(whole))
        return [JobSize(whole[number].lease, position, size) for number, position, size in rows]


def read_inputs(database: Database, ranges: Sequence[SliceRange]) -> list[Job]:
    """The jobs of these stretches of slices that have no result yet, in their order."""
    query = _unanswered_jobs_query(database, with_inputs=True)
    with database.read() as connection:
        return [
            Job(ranges[number].lease, position, document, size)
            for number, position, size, document in connection.execute(query, _range_params(ranges))
        ]


def renew(connection: Connection, sql: SqlFragments, leases: Sequence[Lease], lease_seconds: float) -> list[Lease]:
    """Prolong these leases; returns the ones that are somebody else's now, but not what we closed ourselves."""
    # By id, as every writer of several slices goes, so that two never wait for each other.
    ordered = sorted(leases, key=lambda lease: lease.slice_id)
    return [lease for lease in ordered if not slices.renew_lease(connection, sql, lease, lease_seconds)]


def release(connection: Connection, leases: Sequence[Lease]) -> list[Lease]:
    """Give these slices back at once; returns the ones that were still ours."""
    ordered = sorted(leases, key=lambda lease: lease.slice_id)
    return [lease for lease in ordered if slices.release(connection, lease)]


def release_unknown_claims(connection: Connection, worker_id: str, held_leases: Sequence[Lease]) -> int:
    """Give back what is leased to us without our knowing; returns how many slices. Only for the thread that claims."""
    sql = SQL_FRAGMENTS[connection.dialect.name]
    query = text(RELEASE_UNKNOWN_CLAIMS.format(for_update=sql.for_update, in_numbers=sql.in_numbers))
    named = {"worker_id": worker_id, "numbers": comma_separated(lease.slice_id for lease in held_leases)}
    return connection.execute(query, named).rowcount


def _unanswered_jobs_query(database: Database, *, with_inputs: bool) -> TextualSelect:
    name = database.engine.dialect.name
    query = SELECT_UNANSWERED_JOBS[name].format(
        open=UNANSWERED_JOBS, size=INPUT_SIZE[name], input=", j.input" if with_inputs else ""
    )
    more = [column("input", Document)] if with_inputs else []
    return text(query).columns(column("number"), column("position"), column("size"), *more)


def _range_params(ranges: Iterable[SliceRange]) -> dict[str, str]:
    places = [
        {"number": number, "batch_id": each.lease.batch_id, "first": each.start_position, "past": each.end_position}
        for number, each in enumerate(ranges)
    ]
    return {"stretches": to_json(places)}


def _to_lease(row: Row[Any], batch: Row[Any]) -> Lease:
    return Lease(
        row.id,
        row.batch_id,
        row.first,
        row.size,
        row.token,
        row.attempts,
        batch.parameters,
        row.deaths,
        row.lapses,
        row.retries,
        batch.max_attempts,
    )
