"""The claim order decides which queued slices are claimed first.

One index holds the order, so a claim reads only the rows that it takes. Database triggers copy the key of the order
from the batch to each of its slices:

tenant: the batch's tenant. Tenants take turns (`worker/leasing/claiming/tenant_turns.py`); the rest orders one's slices
priority_rank: the batch's priority, the highest first
deadline_ms: the batch's deadline, in milliseconds; the largest number that fits, if it has none
jobs_ahead: the number of the batch's jobs that are served before this slice
batch_created_ms: the time at which the batch was created, in milliseconds

The slice with the lowest `jobs_ahead` is therefore the next one of the batch that was served least.
"""

from collections.abc import Iterable

from sqlalchemy import Text, TextClause, bindparam

# A slice is quarantined, and its jobs run alone, after this many crashes or lost leases of its workers.
QUARANTINE_AFTER_CRASHES = 2
QUARANTINE_AFTER_LOST_LEASES = 5

# After the pipeline and the tenant.
CLAIM_ORDER_COLUMNS = ("priority_rank", "deadline_ms", "jobs_ahead", "batch_created_ms", "id")

# Literals, exactly as in the predicates of the partial indexes: no planner matches parameters to those.
QUEUED_ORDINARY = (
    f"state = 'queued' AND crashes < {QUARANTINE_AFTER_CRASHES} AND lost_leases < {QUARANTINE_AFTER_LOST_LEASES}"
)
QUEUED_QUARANTINED = (
    f"state = 'queued' AND (crashes >= {QUARANTINE_AFTER_CRASHES} OR lost_leases >= {QUARANTINE_AFTER_LOST_LEASES})"
)
# The indexes that have these predicates.
INDEXES = {QUEUED_ORDINARY: "slices_ordinary", QUEUED_QUARANTINED: "slices_quarantined"}

IS_AVAILABLE = "(available_at IS NULL OR available_at <= {now})"  # not waiting for a backoff

# Of a batch `b`. A worker must not claim a batch that has a guard which the worker doesn't know. `:guards` holds
# `guard_keys`; the lookup runs for guarded batches alone.
HAS_KNOWN_GUARDS = """
(NOT b.guarded OR NOT EXISTS (SELECT 1 FROM batch_guards g WHERE g.batch_id = b.id
                              AND b.pipeline || '/' || g.guard NOT IN :guards))
"""

# A scalar subquery, because the planner turns EXISTS into a join over all slices.
ANY_SLICE = "(SELECT 1 FROM slices WHERE {which} AND {condition} LIMIT 1) IS NOT NULL"


def guard_keys(pipeline: str, guards: Iterable[str]) -> list[str]:
    """The values of `:guards` for the guards that a worker applies in a pipeline."""
    return [f"{pipeline}/{guard}" for guard in guards]


def bind_guards(query: TextClause) -> TextClause:
    """The query with its parameter `:guards` bound as a list of any length."""
    return query.bindparams(bindparam("guards", expanding=True, type_=Text()))


def any_queued_slice(condition: str) -> str:
    """Build the SQL condition that some queued slice meets `condition`; the search stops at the first match."""
    return " OR ".join(
        ANY_SLICE.format(which=which, condition=condition) for which in (QUEUED_ORDINARY, QUEUED_QUARANTINED)
    )
