"""The checks that operators ask for: the doctor, and the audit of a batch. Few run at once, because they read much."""

from threading import BoundedSemaphore

from models.errors import Forbidden, TooManyRequests
from producer.health import audit
from producer.health.audit import AuditSummary
from producer.health.findings import PROBLEM, Finding
from producer.server.context import ServerContext
from producer.tenants.principal import Principal
from producer.timeouts import call_within

MAX_CHECKS = 2  # at once in this process
MAX_DOCTOR_SECONDS = 20.0
RETRY_SECONDS = 5.0

_permits = BoundedSemaphore(MAX_CHECKS)


def require_operator(principal: Principal) -> None:
    """Raise Forbidden for a tenant, because the findings name batches of all of them."""
    if principal.tenant is not None:
        raise Forbidden("the doctor needs a key of all tenants; make one: batchmill keys create --all-tenants")


def run_doctor(context: ServerContext) -> list[Finding]:
    """Check every part, for at most 20 seconds; raises TooManyRequests."""
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
        return [*findings, Finding(PROBLEM, "doctor", message, "run batchmill doctor on the server")]
    return findings


def audit_batch(context: ServerContext, batch_id: str) -> AuditSummary:
    """Audit a batch that the caller may see; raises TooManyRequests."""
    _take_permit()
    try:
        return AuditSummary([audit.audit_batch(context.database, batch_id, context.settings.lease_seconds)])
    finally:
        _permits.release()


def _take_permit() -> None:
    if not _permits.acquire(blocking=False):
        raise TooManyRequests(f"{MAX_CHECKS} other checks run now; come again", RETRY_SECONDS)
