"""`/metrics` in Prometheus' text format, for keys of the operator."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from models.errors import Forbidden
from producer.server.access import Admin
from producer.server.metrics.registry import ServerMetrics

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request, principal: Admin) -> Response:
    """Return all metrics of this server."""
    if principal.tenant is not None:
        raise Forbidden("metrics count the work of all tenants; use a key that was made with --all-tenants")
    served: ServerMetrics = request.app.state.metrics
    return Response(generate_latest(served.registry), media_type=CONTENT_TYPE_LATEST)
