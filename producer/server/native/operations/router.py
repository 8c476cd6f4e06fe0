"""The routes for operators: workers, the doctor, and the audit of a batch."""

from threading import BoundedSemaphore
from typing import Annotated

from fastapi import APIRouter, Path, Response

from models.errors import Forbidden, TooManyRequests
from producer.activity import worker_objects
from producer.health import audit
from producer.health.audit import AuditSummary
from producer.health.findings import PROBLEM, Finding, report_as_dict
from producer.server.access import Admin, Reader
from producer.server.context import Context
from producer.server.native import responses
from producer.server.native.operations import objects
from producer.timeouts import call_within

MAX_CHECKS = 2  # at once in this process; a check reads much
MAX_DOCTOR_SECONDS = 20.0
RETRY_SECONDS = 5.0

router = APIRouter()

_permits = BoundedSemaphore(MAX_CHECKS)


@router.get("/workers", summary="List workers", response_model=objects.WorkerList, tags=["operations"])
def list_workers(context: Context, _principal: Admin) -> Response:
    """List the worker processes, what they do, and what they can't load."""
    return responses.list_response(worker_objects.list_worker_objects(context.database, context.settings.lease_seconds))


@router.get("/doctor", summary="Check every part", response_model=objects.DoctorReport, tags=["operations"])
def check_parts(context: Context, principal: Admin) -> Response:
    """Check settings, disk, Redis, the database, workers, the backlog and schedules, for at most 20 seconds.

    The findings name batches of every tenant, so the key must be one of all tenants.
    """
    if principal.tenant is not None:
        raise Forbidden("the doctor needs a key of all tenants; make one: batchmill keys create --all-tenants")
    from producer.health import doctor  # imports Celery, which takes a third of a second: not before a server listens

    _take_permit()
    findings: list[Finding] = []

    def check() -> None:
        try:
            findings.extend(doctor.run_checks(context.settings))
        finally:
            _permits.release()  # only now, so that checks that hang do not pile up

    try:
        call_within(MAX_DOCTOR_SECONDS, check, "doctor")
    except TimeoutError:
        message = f"the checks were not done within {MAX_DOCTOR_SECONDS:g} s"
        findings = [*findings, Finding(PROBLEM, "doctor", message, "run batchmill doctor on the server")]
    return responses.json_response(report_as_dict(findings))


@router.get("/batches/{batch_id}/audit", summary="Audit a batch", response_model=objects.Audit, tags=["batches"])
def audit_batch(context: Context, principal: Reader, batch_id: Annotated[str, Path(max_length=100)]) -> Response:
    """Recompute from the rows the counters, order, slices and fencing tokens of a batch."""
    context.get_batch(principal, batch_id)
    _take_permit()
    try:
        summary = AuditSummary([audit.audit_batch(context.database, batch_id, context.settings.lease_seconds)])
    finally:
        _permits.release()
    return responses.json_response(summary.as_dict())


def _take_permit() -> None:
    if not _permits.acquire(blocking=False):
        raise TooManyRequests(f"{MAX_CHECKS} other checks run now; come again", RETRY_SECONDS)
