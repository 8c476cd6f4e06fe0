"""The backlog of each pipeline with who serves it, and why nothing moves."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from models.db import Database
from producer.batches import backlog, blockers, views
from producer.batches.backlog import PipelineBacklog
from producer.batches.blocker import Blocker
from producer.batches.workers import WorkerView

MAX_EXPLAINED = 5  # pipelines whose oldest batch is asked why it waits, with a few queries each

# By the index `batches_in_progress`.
SELECT_OLDEST_BATCH = """
SELECT id FROM batches WHERE status = 'in_progress' AND pipeline = :pipeline {of_tenant}
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


def list_backlogs(
    database: Database, worker_views: Sequence[WorkerView], lease_seconds: float, tenant: str | None = None
) -> list[BacklogView]:
    """Return the pipelines with open work, that with the most unanswered jobs first.

    tenant: whose work; None = all
    """
    counts = backlog.count_backlogs(database, tenant)
    found = []
    explained = 0
    for name, waiting in sorted(counts.items(), key=lambda item: (-item[1].unanswered_jobs, item[0])):
        serving = sum(worker.alive and name in worker.served_pipelines for worker in worker_views)
        reasons: tuple[Blocker, ...] = ()
        batch_id = None
        if not waiting.leased_slices and explained < MAX_EXPLAINED:
            explained += 1
            reasons, batch_id = _explain(database, name, lease_seconds, tenant)
        found.append(BacklogView(name, waiting, serving, reasons, batch_id))
    return found


def _explain(
    database: Database, pipeline: str, lease_seconds: float, tenant: str | None
) -> tuple[tuple[Blocker, ...], str | None]:
    of_tenant = "" if tenant is None else "AND tenant = :tenant"
    params = {"pipeline": pipeline} | ({} if tenant is None else {"tenant": tenant})
    with database.read() as connection:
        batch_id = connection.scalar(text(SELECT_OLDEST_BATCH.format(of_tenant=of_tenant)), params)
    found = views.find_batches(database, [] if batch_id is None else [batch_id])
    if batch_id is None or batch_id not in found:  # it ended meanwhile
        return (), None
    return tuple(blockers.find_blockers(database, found[batch_id], lease_seconds)), batch_id
