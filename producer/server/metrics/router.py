"""`/metrics` in Prometheus' text format, for keys of the operator.

While the database does not answer, keys can't be verified. Everybody then reads that it is out, and the counts of
requests, which name routes alone.
"""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool

from models.errors import DatabaseRefused, Forbidden, Unreachable
from producer.server import access
from producer.server.context import Context
from producer.server.metrics.registry import ServerMetrics
from producer.server.requests.outages import DatabaseWatch
from producer.tenants.principal import Principal, Scope

router = APIRouter()


async def _find_operator(request: Request, context: Context, background: BackgroundTasks) -> Principal | None:
    """Return the principal, or None while the database does not answer; raises Unauthorized and Forbidden."""
    watch: DatabaseWatch = request.app.state.database_watch
    try:
        await watch.ask()
        principal = await access.authenticate(request, context, background)
    except (Unreachable, DatabaseRefused):
        return None
    access.check_scope(principal, Scope.ADMIN)
    if principal.tenant is not None:
        raise Forbidden("metrics count the work of all tenants; use a key of all tenants")
    return principal


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request, operator: Annotated[Principal | None, Depends(_find_operator)]) -> Response:
    """Return all metrics of this server."""
    served: ServerMetrics = request.app.state.metrics
    if operator is None:
        return _respond(generate_latest(served.outage_registry))  # without a thread, all of which may wait for SQL
    return _respond(await run_in_threadpool(generate_latest, served.registry))


def _respond(content: bytes) -> Response:
    return Response(content, media_type=CONTENT_TYPE_LATEST)
