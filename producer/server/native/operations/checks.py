"""The checks that operators ask for: the doctor, and the audit of a batch. Few run at once, because they read much."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock

from models.errors import Forbidden, TooManyRequests
from producer.health import audit
from producer.health.audit import AuditSummary
from producer.health.findings import PROBLEM, Finding
from producer.server.context import ServerContext
from producer.tenants.principal import Principal
from producer.timeouts import call_within

MAX_DOCTORS = 2  # at once in this process
MAX_AUDITS, MAX_AUDITS_OF_TENANT = 3, 1
MAX_DOCTOR_SECONDS = 20.0
RETRY_SECONDS = 5.0

_doctors = BoundedSemaphore(MAX_DOCTORS)  # apart: what tenants audit keeps no operator waiting


class AuditLimit:
    """Counts the audits that run, by tenant; threads share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: Counter[str | None] = Counter()

    @contextmanager
    def permit(self, tenant: str | None) -> Iterator[None]:
        """Count an audit while the block runs; raises TooManyRequests at its begin.

        tenant: who asks; None = the operator
        """
        with self._lock:
            if self._running[tenant] >= MAX_AUDITS_OF_TENANT or self._running.total() >= MAX_AUDITS:
                raise TooManyRequests("another audit runs now; come again", RETRY_SECONDS)
            self._running[tenant] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[tenant] -= 1
                self._running += Counter()  # drops what is zero


_audits = AuditLimit()


def require_operator(principal: Principal) -> None:
    """Raise Forbidden for a tenant, because the findings name batches of all of them."""
    if principal.tenant is not None:
        raise Forbidden("the doctor needs a key of all tenants; make one: batchmill keys create --all-tenants")


def run_doctor(context: ServerContext) -> list[Finding]:
    """Check every part, for at most 20 seconds; raises TooManyRequests."""
    from producer.health import doctor  # imports Celery, which takes a third of a second: not before a server listens

    if not _doctors.acquire(blocking=False):
        raise TooManyRequests(f"{MAX_DOCTORS} other checks run now; come again", RETRY_SECONDS)
    findings: list[Finding] = []

    def check() -> None:
        try:
            findings.extend(doctor.run_checks(context.settings))
        finally:
            _doctors.release()  # only now, so that checks that hang do not pile up

    try:
        call_within(MAX_DOCTOR_SECONDS, check, "doctor")
    except TimeoutError:
        message = f"the checks were not done within {MAX_DOCTOR_SECONDS:g} s"
        return [*findings, Finding(PROBLEM, "doctor", message, "run batchmill doctor on the server")]
    return findings


def audit_batch(context: ServerContext, principal: Principal, batch_id: str) -> AuditSummary:
    """Audit a batch that the caller may see; raises TooManyRequests."""
    with _audits.permit(principal.tenant):
        return AuditSummary([audit.audit_batch(context.database, batch_id, context.settings.lease_seconds)])
