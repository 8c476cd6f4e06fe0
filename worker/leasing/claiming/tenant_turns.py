"""Tenant turns decide whose slices a claim takes first, where several tenants have work in a pipeline.

Every tenant has a count of jobs that were claimed for it, its served jobs. The tenant with the lowest count is next. A
tenant without work keeps no claim to the past: it starts again at the floor, the count at which the last claim served
somebody. This is start-time fair queueing (Goyal, Vin and Cheng, 1996). Nothing is counted while one tenant is alone.

Lock order: turns come last in a claim, after batches and slices, by tenant. No transaction locks anything after them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

EVERYBODY = "*"  # the row of a pipeline's floor; no tenant has this name

# The recursion jumps from one tenant to the next in the index of the claim order, however many slices each has. It
# finds a tenant whose slices wait for a backoff too; a claim then passes it over.
SELECT_TURNS = """
WITH RECURSIVE queued(tenant) AS (
    SELECT (SELECT tenant FROM slices WHERE {which} AND pipeline = :pipeline ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT slices.tenant FROM slices
            WHERE {which} AND pipeline = :pipeline AND slices.tenant > queued.tenant ORDER BY slices.tenant LIMIT 1)
    FROM queued WHERE queued.tenant IS NOT NULL
)
SELECT queued.tenant, coalesce(t.served_jobs, 0) AS served_jobs,
       coalesce((SELECT f.served_jobs FROM tenant_turns f WHERE f.pipeline = :pipeline AND f.tenant = '*'), 0) AS floor
FROM queued LEFT JOIN tenant_turns t ON t.pipeline = :pipeline AND t.tenant = queued.tenant
WHERE queued.tenant IS NOT NULL
"""

# Two claims of one tenant that run side by side both count.
ADD_SERVED_JOBS = """
INSERT INTO tenant_turns (pipeline, tenant, served_jobs) VALUES (:pipeline, :tenant, :start + :jobs)
ON CONFLICT (pipeline, tenant) DO UPDATE
SET served_jobs = CASE WHEN tenant_turns.served_jobs > :start THEN tenant_turns.served_jobs ELSE :start END + :jobs
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """A tenant with queued slices, and the count of served jobs at which its next claim starts."""

    tenant: str
    start: int


def is_any_queued(connection: Connection, pipeline: str, kind_condition: str) -> bool:
    """Whether the pipeline has queued slices of this kind, claimable or not."""
    query = f"SELECT 1 FROM slices WHERE {kind_condition} AND pipeline = :pipeline LIMIT 1"  # noqa: S608
    return connection.scalar(text(query), {"pipeline": pipeline}) is not None


def select_turns(connection: Connection, pipeline: str, kind_condition: str) -> list[Turn]:
    """Return the tenants with queued slices of this kind, the next one first."""
    rows = connection.execute(text(SELECT_TURNS.format(which=kind_condition)), {"pipeline": pipeline}).all()
    return order_turns({row.tenant: row.served_jobs for row in rows}, rows[0].floor if rows else 0)


def order_turns(served_jobs: Mapping[str, int], floor: int) -> list[Turn]:
    """Order tenants by their served jobs, none of which counts less than the floor."""
    turns = [Turn(tenant, max(served, floor)) for tenant, served in served_jobs.items()]
    return sorted(turns, key=lambda turn: (turn.start, turn.tenant))


def record_turns(
    connection: Connection, pipeline: str, turns: Sequence[Turn], leased: Iterable[tuple[str, int]]
) -> None:
    """Count the leased slices, given as `(tenant, jobs)`, and raise the floor; the last statement of a claim."""
    jobs: Counter[str] = Counter()
    for tenant, size in leased:
        jobs[tenant] += size
    starts = {turn.tenant: turn.start for turn in turns if turn.tenant in jobs}
    if len(turns) < 2 or not starts:
        return
    # Those who come before the last one served have nothing left to claim, so the floor may pass them.
    starts[EVERYBODY] = max(starts.values())
    rows = [
        {"pipeline": pipeline, "tenant": tenant, "start": start, "jobs": jobs[tenant]}
        for tenant, start in sorted(starts.items())
    ]
    connection.execute(text(ADD_SERVED_JOBS), rows)
