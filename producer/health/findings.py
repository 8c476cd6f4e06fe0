"""Findings of the doctor, decided from what it has read. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import schema
from models.postgresql.access import RolePrivileges
from models.postgresql.grants import Purpose, quote_identifier
from models.postgresql.privileges import format_missing, grants_command
from models.privacy.terminal import format_duration
from models.settings import Settings
from models.tasks.own.own_spec import OwnTaskSpec
from models.tasks.own.registry import BrokenTask
from producer.health.database_stats import DatabaseServer, MaintenanceTaskView
from producer.schedules.status import ScheduleStatus
from producer.webhooks.batch_deliveries import UndeliveredEvents

if TYPE_CHECKING:
    from models.lifecycle.wakeups import ServerInfo  # imports Celery

OK, WARNING, PROBLEM = "ok", "warning", "problem"

MAX_CLOCK_SKEW_SECONDS = 5.0
LOW_DISK_BYTES = 1 << 30  # a million short jobs with their results take about half of it
CRITICAL_DISK_BYTES = 100 << 20
REDIS_FULL_FRACTION = 0.9  # of Redis' memory
MIN_REDIS_VERSION = (6, 2)
PURPOSE_VERBS = {Purpose.READER: "read", Purpose.SUBMITTER: "submit", Purpose.WORKER: "work"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report: the part, its state, and what to do."""

    level: str  # ok | warning | problem
    subject: str
    message: str
    advice: str | None = None
    unreachable: bool = False  # so that nothing that depends on it was checked

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `batchmill doctor --json` prints."""
        return {"level": self.level, "what": self.subject, "message": self.message, "advice": self.advice}


def report_as_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the JSON object that `batchmill doctor --json` prints."""
    is_healthy = not any(finding.unreachable or finding.level == PROBLEM for finding in findings)
    return {"object": "doctor", "healthy": is_healthy, "findings": [finding.as_dict() for finding in findings]}


def check_disk(folder: Path, free_bytes: int) -> Iterator[Finding]:
    """Check the free space of the disk to which the embedded database and Valkey write."""
    message = f"{format_bytes(free_bytes)} free at {folder}"
    if free_bytes < LOW_DISK_BYTES:
        level = PROBLEM if free_bytes < CRITICAL_DISK_BYTES else WARNING
        yield Finding(level, "disk", message, "free some space: a full disk stops submissions and workers")
    else:
        yield Finding(OK, "disk", message)


def check_privacy(exposed_paths: Iterable[Path]) -> Iterator[Finding]:
    """Warn about files with inputs and outputs that other users of this machine may read."""
    for path in exposed_paths:
        advice = f"to prevent it, run: chmod go-rwx {path}"
        yield Finding(WARNING, "privacy", f"others on this machine may read {path}", advice)


def check_own_tasks(own_tasks: Iterable[OwnTaskSpec | BrokenTask]) -> Iterator[Finding]:
    """Report the tasks of one's own with the versions of their code, and those of packages that can't be used.

    Those of batchmill.toml are reported with their pipelines.
    """
    usable = []
    for task in own_tasks:
        if isinstance(task, BrokenTask):
            if task.pipeline is not None:
                continue
            advice = "mend it: pipelines with this task can't be used"
            yield Finding(PROBLEM, "tasks", f"{task.name} ({task.origin}): {task.problem}", advice)
        else:
            usable.append(f"{task.name} ({task.code_version or 'its adapter is not on this machine'})")
    if usable:
        yield Finding(OK, "tasks", ", ".join(usable))


def check_limits(settings: Settings) -> Finding:
    """Report the files and URLs that sources may name, and the addresses that webhooks may call."""
    roots = settings.source_roots
    files = "any file here" if roots is None else f"files under {', '.join(map(str, roots)) or 'no folder'}"
    urls = f"{', '.join(settings.source_schemes)} URLs" if settings.source_schemes else "no URLs"
    hosts = ", ".join(settings.webhook_allowed_hosts)
    addresses = f"public addresses and {hosts}" if hosts else "public addresses only"
    return Finding(OK, "limits", f"sources: {files}, {urls}; webhooks: {addresses}")


def check_redis(server_info: "ServerInfo", url: str) -> Iterator[Finding]:
    """Check the version of Redis, and that it will not drop or refuse wakeups."""
    used, limit = server_info.used_memory_bytes, server_info.max_memory_bytes
    memory = f"{format_bytes(used)} used" + (f" of {format_bytes(limit)}" if limit else "")
    message = f"{server_info.kind} {server_info.version} at {url}, {memory}, {server_info.eviction_policy}"
    version = tuple(int(part) for part in server_info.version.split(".")[:2])
    if server_info.kind == "Redis" and version < MIN_REDIS_VERSION:
        yield Finding(PROBLEM, "redis", message, "Batchmill needs Redis 6.2 or later, or Valkey")
    elif limit and server_info.eviction_policy != "noeviction":
        advice = "it may drop wakeups, so that work starts later: set maxmemory-policy noeviction"
        yield Finding(WARNING, "redis", message, advice)
    elif limit and used > REDIS_FULL_FRACTION * limit:
        yield Finding(WARNING, "redis", message, "it is nearly full and will refuse wakeups: raise maxmemory")
    else:
        yield Finding(OK, "redis", message)


def check_database(server: DatabaseServer, url: str) -> Finding:
    """Check that the database's clock agrees with ours."""
    message = f"{server.kind} {server.version} at {url}, tables {schema.HEAD}, {format_bytes(server.size_bytes)}"
    if abs(server.clock_ahead_seconds) <= MAX_CLOCK_SKEW_SECONDS:
        return Finding(OK, "database", message)
    side = "ahead of" if server.clock_ahead_seconds > 0 else "behind"
    message += f", its clock {format_duration(abs(server.clock_ahead_seconds))} {side} ours"
    return Finding(WARNING, "database", message, "synchronize the clocks: leases go by its clock, but logs by ours")


def check_role(privileges: RolePrivileges) -> Iterator[Finding]:
    """Check which purposes our role's privileges cover; privileges for only some purposes are fine."""
    role, name = privileges.role, quote_identifier(privileges.role.name)
    if role.is_standby or role.is_read_only:
        reason = "a standby" if role.is_standby else f"read-only for role {name}"
        advice = "name its primary server" if role.is_standby else "see default_transaction_read_only"
        yield Finding(WARNING, "role", f"the database is {reason}: nothing can be submitted or run", advice)
        return
    for purpose in Purpose:
        missing = privileges.missing[purpose]
        if missing and (purpose is Purpose.READER or purpose in privileges.partially_granted):
            level = PROBLEM if purpose is Purpose.READER else WARNING
            message = f"role {name} can't {PURPOSE_VERBS[purpose]}: it lacks {format_missing(missing)}"
            advice = f"the owner of the tables runs the output of: {grants_command(purpose, role.name)}"
            yield Finding(level, "role", message, advice)
            return
    allowed = [PURPOSE_VERBS[purpose] for purpose in Purpose if not privileges.missing[purpose]]
    denied = [PURPOSE_VERBS[purpose] for purpose in Purpose if privileges.missing[purpose]]
    message = f"{name} may {' and '.join(allowed)}" + (f", and not {' or '.join(denied)}" if denied else "")
    yield Finding(OK, "role", message)


def check_schedules(statuses: Sequence[ScheduleStatus], undelivered_events: Mapping[str, int]) -> Iterator[Finding]:
    """Check schedules: those that are overdue, whose last run failed, or whose events were not delivered."""
    unhealthy = [status for status in statuses if status.needs_attention]
    if statuses and not unhealthy and not undelivered_events:
        yield Finding(OK, "schedules", f"{len(statuses):,}, none of which needs attention")
    for status in unhealthy:
        yield _schedule_finding(status)
    for name, count in undelivered_events.items():
        message = f"{name}: {count:,} events of the last week never reached its webhook"
        advice = f"check that the webhook responds; for details: batchmill schedule show {name}"
        yield Finding(WARNING, "schedules", message, advice)


def check_webhooks(undelivered: UndeliveredEvents) -> Iterator[Finding]:
    """Check that the events of batches reach their webhooks."""
    if undelivered.abandoned:
        message = f"{undelivered.abandoned:,} events of batches of the last week never reached their webhook"
        advice = "check that the webhook responds; the log has them as webhook.delivery_abandoned"
        yield Finding(WARNING, "webhooks", message, advice)
    if undelivered.retried:
        message = f"{undelivered.retried:,} events of batches did not reach their webhook yet"
        advice = "they are sent again; the log has the reasons as webhook.delivery_failed"
        yield Finding(WARNING, "webhooks", message, advice)


def check_maintenance(
    maintenance_tasks: Iterable[MaintenanceTaskView], max_overdue_seconds: float
) -> Iterator[Finding]:
    """Whether each maintenance task runs on time."""
    for task in maintenance_tasks:
        message = _describe_task(task)
        if task.failures_in_a_row:
            advice = "it is tried again; see the logs of workers and of batchmill maintain"
            yield Finding(PROBLEM, "maintenance", message, advice)
        elif task.overdue_seconds > max_overdue_seconds:
            message += f"; overdue by {format_duration(task.overdue_seconds)}"
            advice = "no process runs it: start a worker, or batchmill maintain"
            yield Finding(WARNING, "maintenance", message, advice)
        else:
            yield Finding(OK, "maintenance", message)


def _schedule_finding(status: ScheduleStatus) -> Finding:
    name, run, format_time = status.view.name, status.last_run, status.view.definition.format_time
    next_run_at = status.view.next_run_at
    if status.state == "overdue":
        message = f"{name} is overdue" + (f" since {format_time(next_run_at)}" if next_run_at else "")
        advice = (
            "no process runs it: start a worker, or batchmill maintain; or see the output of: batchmill schedule tick"
        )
        return Finding(PROBLEM, "schedules", message, advice)
    scheduled_at = next_run_at if run is None else run.scheduled_at
    suffix = "" if run is None or run.error_code is None else f" ({run.error_code})"
    run_name = "its run" if scheduled_at is None else f"the run of {format_time(scheduled_at)}"
    message = f"{name}: {run_name} is {status.state}{suffix}"
    return Finding(WARNING, "schedules", message, f"see batchmill schedule show {name}")


def _describe_task(task: MaintenanceTaskView) -> str:
    run_age, effect_age = task.last_run_seconds_ago, task.last_effect_seconds_ago
    last_run = "never ran" if run_age is None else f"ran {format_duration(run_age)} ago"
    effect = "" if effect_age is None else f"; {format_duration(effect_age)} ago: {task.last_effect}"
    return f"{task.name} {last_run}{effect}{_describe_failure(task)}"


def _describe_failure(task: MaintenanceTaskView) -> str:
    if task.last_failed_seconds_ago is None or task.last_failure is None:
        return ""
    failure = task.last_failure.split("; ")[0]  # the rest is advice on commands
    reason = f"by a defect ({failure})" if failure.isidentifier() else f"because {failure}"
    age = format_duration(task.last_failed_seconds_ago)
    if not task.failures_in_a_row:
        return f"; {age} ago it failed {reason}"
    runs = "run" if task.failures_in_a_row == 1 else f"{task.failures_in_a_row:,} runs"
    return f"; its last {runs} failed, {age} ago {reason}"


def format_bytes(byte_count: int) -> str:
    """A size in words."""
    for unit, length in (("GB", 1 << 30), ("MB", 1 << 20)):
        if byte_count >= length:
            return f"{byte_count / length:,.1f} {unit}"
    return f"{byte_count / 1024:,.0f} kB"
