"""The backlog of each pipeline with who serves it, and why nothing moves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import text

from models.db import Database
from models.states import BatchStatus
from producer.activity.tenants import of_tenant
from producer.batches import blockers
from producer.batches.blocker import Blocker
from producer.batches.blockers import LoadFailureView
from producer.workers import backlog, workers
from producer.workers.backlog import PipelineBacklog
from producer.workers.workers import WorkerView

MAX_EXPLAINED = 5  # pipelines whose oldest batch is asked why it waits, with three queries each
MAX_REASONS = 2

# By the index `batches_in_progress`.
SELECT_OLDEST_BATCH = """
SELECT id, revision, guarded FROM batches WHERE status = 'in_progress' AND pipeline = :pipeline {of_tenant}
ORDER BY created_at, id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class BacklogView:
    """The open work of a pipeline.

    workers: processes that serve it
    reasons: why its oldest batch waits; none while a worker works on any
    batch_id: that batch
    """

    pipeline: str
    backlog: PipelineBacklog
    workers: int
    reasons: tuple[Blocker, ...] = ()
    batch_id: str | None = None


@dataclass(frozen=True, slots=True)
class OldestBatch:
    """The oldest batch of a pipeline, which waits."""

    pipeline: str
    revision: str | None
    status: BatchStatus = BatchStatus.IN_PROGRESS


def list_backlogs(
    database: Database,
    worker_views: Sequence[WorkerView],
    load_failures: Sequence[LoadFailureView],
    tenant: str | None = None,
) -> list[BacklogView]:
    """Return the pipelines with open work, that with the most unanswered jobs first.

    tenant: whose work; None = all
    """
    counts = backlog.count_backlogs(database, tenant)
    serving = workers.count_serving(worker_views)
    found = []
    explained = 0
    for name, waiting in sorted(counts.items(), key=lambda item: (-item[1].unanswered_jobs, item[0])):
        item = BacklogView(name, waiting, serving[name])
        if not waiting.leased_slices and explained < MAX_EXPLAINED:
            explained += 1
            item = _explain(database, item, worker_views, load_failures, tenant)
        found.append(item)
    return found


def _explain(
    database: Database,
    item: BacklogView,
    worker_views: Sequence[WorkerView],
    load_failures: Sequence[LoadFailureView],
    tenant: str | None,
) -> BacklogView:
    """Add why the oldest batch of a pipeline waits."""
    condition, params = of_tenant(tenant)
    query = text(SELECT_OLDEST_BATCH.format(of_tenant=condition))
    with database.read() as connection:
        row = connection.execute(query, {"pipeline": item.pipeline, **params}).one_or_none()
    if row is None:  # it ended meanwhile
        return item
    guards = blockers.list_guards(database, row.id) if row.guarded else []
    batch = OldestBatch(item.pipeline, row.revision)
    slices = blockers.count_slices(database, row.id)
    reasons = blockers.decide_blockers(batch, slices, worker_views, load_failures, guards)
    return replace(item, reasons=tuple(reasons)[:MAX_REASONS], batch_id=row.id)
