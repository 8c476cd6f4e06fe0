"""Batch rows written straight to SQL, and reads of their state, so that worker tests need no producer."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import insert, select, text, update

from models.db import Database
from models.guards.definition import Guard
from models.lifecycle import guard_counters
from models.states import BatchStatus, SliceState
from models.tables.batches import Batch, Job, Slice
from models.tables.results import Result
from producer.health import audit as auditor
from worker.leasing import leases
from worker.leasing.claiming import claims
from worker.leasing.leases import Claimant, Lease, SliceRange
from worker.loading.versions import RuntimeVersion

PIPELINE = "reviews"
TASK = "sentiment-analysis"
MODEL = "made/model"
REVISION = "a" * 40
LEASE_SECONDS = 30.0

# Older than any clock in a test, and one second apart, so that "oldest" is well defined.
FIRST_CREATED_AT = datetime(2020, 1, 1, tzinfo=UTC)

MODEL_VERSION = RuntimeVersion(
    task=TASK,
    model=MODEL,
    revision=REVISION,
    tokenizer=MODEL,
    tokenizer_revision=REVISION,
    dtype="float32",
    quantization=None,
    attention="eager",
    device="cpu",
    libraries={"torch": "1"},
)

# The columns of a batch in progress that say what runs and how.
BATCH_VALUES: Mapping[str, Any] = {
    "pipeline": PIPELINE,
    "task": TASK,
    "model": MODEL,
    "revision": REVISION,
    "parameters": {},
    "metadata_": {},
    "status": BatchStatus.IN_PROGRESS.value,
}

_batch_numbers = itertools.count()


def claimant_for(worker_id: str = "worker-1", **fields: Any) -> Claimant:
    """Return a claimant for the default pipeline and revision of these batches."""
    named = {"pipeline": PIPELINE, "task": TASK, "model": MODEL, "revision": REVISION, "lease_seconds": LEASE_SECONDS}
    return Claimant(worker_id=worker_id, **{**named, **fields})


def insert_batch(
    database: Database,
    inputs: int | Sequence[Mapping[str, Any]],
    *,
    slice_size: int = 4,
    guards: Mapping[str, Guard] = MappingProxyType({}),
    **columns: Any,
) -> str:
    """Insert a batch in progress with its jobs and slices, younger than all before; returns its id."""
    number = next(_batch_numbers)
    rows = [{"text": f"text {place}"} for place in range(inputs)] if isinstance(inputs, int) else list(inputs)
    values: dict[str, Any] = {
        **BATCH_VALUES,
        "id": f"batch_{number:04}",
        "total": len(rows),
        "created_at": FIRST_CREATED_AT + timedelta(seconds=number),
    } | columns
    batch_id: str = values["id"]
    jobs = [{"batch_id": batch_id, "position": place, "input": row} for place, row in enumerate(rows)]
    slice_rows = [
        {
            "batch_id": batch_id,
            "start_position": first,
            "size": min(slice_size, len(rows) - first),
            "state": SliceState.QUEUED.value,
        }
        for first in range(0, len(rows), slice_size)
    ]
    with database.write() as connection:
        connection.execute(insert(Batch).values(**values))
        guard_counters.insert_guards(connection, batch_id, guards)
        connection.execute(insert(Job), jobs)
        connection.execute(insert(Slice), slice_rows)
    return batch_id


def get_batch(database: Database, batch_id: str) -> Any:
    """Return the batch's row."""
    with database.read() as connection:
        return connection.execute(select(Batch.__table__).where(Batch.id == batch_id)).one()


def get_results(database: Database, batch_id: str) -> list[Any]:
    """Return the batch's result rows, by position."""
    with database.read() as connection:
        query = select(Result.__table__).where(Result.batch_id == batch_id).order_by(Result.position)
        return list(connection.execute(query))


def get_slices(database: Database, batch_id: str) -> list[Any]:
    """Return the batch's slices, in order."""
    with database.read() as connection:
        return list(connection.execute(select(Slice.__table__).where(Slice.batch_id == batch_id).order_by(Slice.id)))


def get_slice(database: Database, lease: Lease) -> Any:
    """Return the row of a lease's slice."""
    with database.read() as connection:
        return connection.execute(select(Slice.__table__).where(Slice.id == lease.slice_id)).one()


def get_unanswered_jobs(database: Database, leases: Iterable[Lease]) -> list[leases.Job]:
    """Return the jobs of these slices that have no result yet."""
    return claims.read_inputs(
        database, [SliceRange(lease, lease.start_position, lease.start_position + lease.size) for lease in leases]
    )


def expire_leases(database: Database, *leases: Lease) -> None:
    """Make these leases look long expired."""
    with database.write() as connection:
        long_ago = {"lease_expires_at": datetime.now(UTC) - timedelta(hours=1)}
        connection.execute(update(Slice).where(Slice.id.in_([lease.slice_id for lease in leases])).values(long_ago))


def update_batch(database: Database, batch_id: str, **columns: Any) -> None:
    """Change columns of a batch directly in SQL."""
    with database.write() as connection:
        connection.execute(update(Batch).where(Batch.id == batch_id).values(**columns))


def execute(database: Database, statement: str, **parameters: Any) -> None:
    """Execute one statement."""
    with database.write() as connection:
        connection.execute(text(statement), parameters)


def set_claim_times(database: Database, batch_id: str, start: float, end: float, *, number: int | None = None) -> None:
    """Finish all slices of a batch, or the one with this number, claimed and done at seconds after FIRST_CREATED_AT."""
    with database.write() as connection:
        ids = sorted(connection.scalars(select(Slice.id).where(Slice.batch_id == batch_id)))
        connection.execute(
            update(Slice)
            .where(Slice.id.in_(ids if number is None else ids[number : number + 1]))
            .values(
                state=SliceState.DONE,
                leased_at=FIRST_CREATED_AT + timedelta(seconds=start),
                done_at=FIRST_CREATED_AT + timedelta(seconds=end),
            )
        )


SELECT_COUNTERS = """
SELECT b.succeeded - b.reused, b.failed, b.tokens, b.padded_tokens,
       b.device_seconds + (SELECT coalesce(sum(g.device_seconds), 0) FROM batch_guards g WHERE g.batch_id = b.id)
FROM batches b
"""
SELECT_USAGE = "SELECT succeeded, failed, tokens, padded_tokens, device_seconds FROM usage"


def assert_usage_equals_counters(database: Database) -> None:
    """Assert that the usage of all tenants is what workers have added to the counters of batches."""
    with database.snapshot() as connection:
        counters, usage = (
            [sum(column) for column in zip((0,) * 5, *connection.execute(text(query)), strict=True)]
            for query in (SELECT_COUNTERS, SELECT_USAGE)
        )
    assert usage[:4] == counters[:4]
    assert abs(usage[4] - counters[4]) < 1e-6


def assert_consistent(database: Database, batch_id: str) -> None:
    """Assert the invariants: counters equal rows, `seq` has no gaps, no job is lost or answered twice."""
    audited = auditor.audit_batch(database, batch_id, LEASE_SECONDS)
    assert audited.is_sound, audited.problems
