"""The routes for operators: workers, the doctor, and the audit of a batch."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from producer.activity import worker_objects
from producer.health.findings import report_as_dict
from producer.server.access import Admin, Reader
from producer.server.context import Context
from producer.server.native import responses
from producer.server.native.operations import checks, objects

router = APIRouter()


@router.get("/workers", summary="List workers", response_model=objects.WorkerList, tags=["operations"])
def list_workers(context: Context, _principal: Admin) -> Response:
    """List the worker processes, what they do, and what they can't load."""
    return responses.list_response(worker_objects.list_worker_objects(context.database, context.settings.lease_seconds))


@router.get("/doctor", summary="Check every part", response_model=objects.DoctorReport, tags=["operations"])
def check_parts(context: Context, principal: Admin) -> Response:
    """Check settings, disk, Redis, the database, workers, the backlog and schedules, for at most 20 seconds.

    The findings name batches of every tenant, so the key must be one of all tenants.
    """
    checks.require_operator(principal)
    return responses.json_response(report_as_dict(checks.run_doctor(context)))


@router.get("/batches/{batch_id}/audit", summary="Audit a batch", response_model=objects.Audit, tags=["batches"])
def audit_batch(context: Context, principal: Reader, batch_id: Annotated[str, Path(max_length=100)]) -> Response:
    """Recompute from the rows the counters, order, slices and fencing tokens of a batch."""
    context.get_batch(principal, batch_id)
    return responses.json_response(checks.audit_batch(context, principal, batch_id).as_dict())
