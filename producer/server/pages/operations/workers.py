"""`/workers`: the worker processes, their devices, the servers and the maintenance tasks."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from models.error_catalogue import explain_batch
from models.errors import Forbidden
from producer.activity import utilisation
from producer.activity.utilisation import WorkerActivity
from producer.batches import blockers
from producer.batches.blockers import LoadFailureView
from producer.health import database_stats, servers
from producer.server.context import Context, ServerContext
from producer.server.pages.access.visitor import PageAdmin
from producer.server.pages.frame.rendering import render
from producer.tenants.principal import Principal
from producer.workers import workers
from producer.workers.workers import WorkerView

router = APIRouter()

PAGE_WORKERS = 50
MAX_LINES = 100  # of servers, and of devices


@dataclass(frozen=True, slots=True)
class ShownWorker:
    """A worker process with what it does."""

    view: WorkerView
    activity: WorkerActivity


@dataclass(frozen=True, slots=True)
class ShownFailure:
    """A pipeline that a worker can't load, and what to do."""

    view: LoadFailureView
    advice: str


@router.get("/workers")
def show_workers(
    request: Request, context: Context, visitor: PageAdmin, page: Annotated[int, Query(ge=1, le=10_000)] = 1
) -> Response:
    """Show a page of the processes, those that are gone last, and the rest of the system."""
    check_operator(visitor.principal)
    return render(request, visitor, "operations/workers.html", **read_workers(context, visitor.principal, page))


def check_operator(principal: Principal) -> None:
    """Raise Forbidden unless somebody has a key of all tenants."""
    if principal.tenant is not None:
        raise Forbidden("hosts, folders and failures are for the operator, who has a key of all tenants")


def read_workers(context: ServerContext, _principal: Principal, page: int) -> dict[str, Any]:
    """Return what the page shows."""
    views = workers.list_workers(context.database, context.settings.lease_seconds)
    views.sort(key=lambda view: not view.alive)
    shown = views[(page - 1) * PAGE_WORKERS : page * PAGE_WORKERS]
    activities = utilisation.read_worker_activity(context.database, shown)
    return {
        "workers": [ShownWorker(view, activities[view.id]) for view in shown],
        "count": len(views),
        "gone": sum(not view.alive for view in views),
        "page": page,
        "pages": max(1, math.ceil(len(views) / PAGE_WORKERS)),
        "most": MAX_LINES,
        "devices": utilisation.sum_devices(views, utilisation.read_utilisation(context.database, views)),
        "load_failures": _list_load_failures(context),
        "servers": servers.list_servers(context.database, context.settings.lease_seconds),
        "tasks": database_stats.list_maintenance_tasks(context.database),
        "lease_seconds": context.settings.lease_seconds,
    }


def _list_load_failures(context: ServerContext) -> list[ShownFailure]:
    failures = blockers.list_load_failures(context.database)
    return [ShownFailure(failure, explain_batch(failure.code).advice) for failure in failures]
