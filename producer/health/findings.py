"""Findings: what the doctor makes of what it sees. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from models import schema
from models.lifecycle.seats import worker_name_for
from models.lifecycle.wakeups import ServerInfo
from models.postgresql.grants import Purpose, quote_identifier
from models.postgresql.privileges import RolePrivileges, format_missing, grants_command
from models.settings import Settings
from producer.batches.blockers import LoadFailureView
from producer.batches.workers import WorkerView
from producer.health.database_stats import Backlog, DatabaseServer, MaintenanceTaskView, TransitioningBatch
from producer.schedules.status import ScheduleStatus as ScheduleStanding

OK, WARNING, PROBLEM = "ok", "warning", "problem"

STUCK_AFTER_SECONDS = 600.0  # without news a batch is not on its way any more; chunks of either kind take seconds
MAX_CLOCK_SKEW_SECONDS = 5.0
LOW_DISK_BYTES, CRITICAL_DISK_BYTES = (
    1 << 30,
    100 << 20,
)  # a million short jobs with their results take about half of the first
REDIS_FULL_FRACTION = 0.9  # of Redis' memory
MIN_REDIS_VERSION = (6, 2)
PURPOSE_VERBS = {Purpose.READER: "read", Purpose.SUBMITTER: "submit", Purpose.WORKER: "work"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's: what was looked at, how it is, and what to do."""

    level: str  # ok | warning | problem
    subject: str
    message: str
    advice: str | None = None
    unreachable: bool = False  # nothing behind it could be looked at

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill doctor --json` prints it."""
        return {"level": self.level, "what": self.subject, "message": self.message, "advice": self.advice}


def check_disk(folder: Path, free_bytes: int) -> Iterator[Finding]:
    """Whether there is room where the embedded database or Valkey writes."""
    message = f"{_format_bytes(free_bytes)} free at {folder}"
    if free_bytes < LOW_DISK_BYTES:
        level = PROBLEM if free_bytes < CRITICAL_DISK_BYTES else WARNING
        yield Finding(level, "disk", message, "make room: a full disk stops submitting and answering")
    else:
        yield Finding(OK, "disk", message)


def check_privacy(exposed_paths: Iterable[Path]) -> Iterator[Finding]:
    """What of ours, which holds inputs and outputs, others on this machine may read."""
    for path in exposed_paths:
        advice = f"if they are not to, run: chmod go-rwx {path}"
        yield Finding(WARNING, "privacy", f"others on this machine may read {path}", advice)


def check_limits(settings: Settings) -> Finding:
    """What sources may name and webhooks may call."""
    roots = settings.source_roots
    files = "any file here" if roots is None else f"files under {', '.join(map(str, roots)) or 'no folder'}"
    urls = f"{', '.join(settings.source_schemes)} URLs" if settings.source_schemes else "no URLs"
    hosts = ", ".join(settings.webhook_allowed_hosts)
    called = f"public addresses and {hosts}" if hosts else "public addresses only"
    return Finding(OK, "limits", f"sources: {files}, {urls}; webhooks: {called}")


def check_redis(server_info: ServerInfo, url: str) -> Iterator[Finding]:
    """What Redis is, and whether it may forget bells."""
    limit = f"{_format_bytes(server_info.used_memory_bytes)} used" + (
        f" of {_format_bytes(server_info.max_memory_bytes)}" if server_info.max_memory_bytes else ""
    )
    message = f"{server_info.kind} {server_info.version} at {url}, {limit}, {server_info.eviction_policy}"
    if (
        server_info.kind == "Redis"
        and tuple(int(part) for part in server_info.version.split(".")[:2]) < MIN_REDIS_VERSION
    ):
        yield Finding(PROBLEM, "redis", message, "Batchmill needs Redis 6.2 or later, or Valkey")
    elif server_info.max_memory_bytes and server_info.eviction_policy != "noeviction":
        advice = "it may drop bells, and work begins later: set maxmemory-policy noeviction"
        yield Finding(WARNING, "redis", message, advice)
    elif (
        server_info.max_memory_bytes
        and server_info.used_memory_bytes > REDIS_FULL_FRACTION * server_info.max_memory_bytes
    ):
        yield Finding(WARNING, "redis", message, "it is nearly full and will refuse bells: raise maxmemory")
    else:
        yield Finding(OK, "redis", message)


def check_database(server: DatabaseServer, url: str) -> Finding:
    """What the database is, and whether its clock is ours."""
    message = f"{server.kind} {server.version} at {url}, tables {schema.HEAD}, {_format_bytes(server.size_bytes)}"
    if abs(server.clock_ahead_seconds) <= MAX_CLOCK_SKEW_SECONDS:
        return Finding(OK, "database", message)
    side = "ahead of" if server.clock_ahead_seconds > 0 else "behind"
    apart = f"{message}, its clock {format_duration(abs(server.clock_ahead_seconds))} {side} ours"
    return Finding(WARNING, "database", apart, "set the clocks: leases go by its clock, but logs by ours")


def check_role(privileges: RolePrivileges) -> Iterator[Finding]:
    """What the database lets our role do, by purpose; that it is for less than everything is no fault."""
    role, name = privileges.role, quote_identifier(privileges.role.name)
    if role.is_standby or role.is_read_only:
        why = "a standby" if role.is_standby else f"read-only for role {name}"
        advice = "name its primary server" if role.is_standby else "see default_transaction_read_only"
        yield Finding(WARNING, "role", f"the database is {why}: nothing can be submitted or run", advice)
        return
    for purpose in Purpose:
        missing = privileges.missing[purpose]
        if missing and (purpose is Purpose.READER or purpose in privileges.partially_granted):
            level = PROBLEM if purpose is Purpose.READER else WARNING
            said = f"role {name} can't {PURPOSE_VERBS[purpose]}: it lacks {format_missing(missing)}"
            yield Finding(level, "role", said, f"its owner runs what this prints: {grants_command(purpose, role.name)}")
            return
    may = [PURPOSE_VERBS[purpose] for purpose in Purpose if not privileges.missing[purpose]]
    can_t = [PURPOSE_VERBS[purpose] for purpose in Purpose if privileges.missing[purpose]]
    message = f"{name} may {' and '.join(may)}" + (f", and not {' or '.join(can_t)}" if can_t else "")
    yield Finding(OK, "role", message)


def check_workers(workers: Sequence[WorkerView]) -> Iterator[Finding]:
    """Who works, on what, and who fell silent."""
    alive = [worker for worker in workers if worker.alive]
    serves = sorted({pipeline for worker in alive for pipeline in worker.serves})
    message = f"{len(alive):,} alive" + (f", for {', '.join(serves)}" if serves else "")
    yield Finding(OK, "workers", message)
    for worker in workers:
        if not worker.alive:
            silent = f"process {worker.pid} on {worker.host} ({worker.device}) was last heard of"
            yield Finding(
                WARNING,
                "workers",
                f"{silent} {format_duration(worker.heartbeat_seconds_ago)} ago",
                "see what became of it; its work is given to others",
            )


def check_load_failures(load_failures: Sequence[LoadFailureView]) -> Iterator[Finding]:
    """What workers can't load, and why; they try again by themselves."""
    for failure in load_failures:
        yield Finding(
            WARNING,
            "models",
            failure.summary,
            "mend that machine, its batchmill.toml or the model; other workers may serve it meanwhile",
        )


def check_backlogs(
    backlogs: Sequence[Backlog],
    workers: Sequence[WorkerView],
    queue_depths: dict[str, int],
    load_failures: Sequence[LoadFailureView] = (),
) -> Iterator[Finding]:
    """What waits, against who is there to do it. `bells` may lack a pipeline: Redis did not say."""
    broken = {(failure.seat, failure.pipeline) for failure in load_failures}
    if not backlogs:
        yield Finding(OK, "work", "nothing waits")
    for backlog in backlogs:
        pipeline = backlog.pipeline
        serving = [worker for worker in workers if worker.alive and pipeline in worker.serves]
        able = [worker for worker in serving if (worker_name_for(worker.id), pipeline) not in broken]
        pinned = {worker.revision for worker in serving if worker.pipeline == pipeline and worker.revision}
        message = _describe_backlog(backlog, queue_depths.get(pipeline), len(serving))
        if not serving:
            yield Finding(PROBLEM, "work", message, f"start a worker: batchmill up --pipelines {pipeline}")
        elif not able:
            yield Finding(PROBLEM, "work", message, "none of its workers can load it: see the findings on models")
        elif backlog.lease_expired:
            yield Finding(WARNING, "work", message, "nobody reclaims what lapsed: see the workers' logs")
        elif backlog.revision is not None and pinned and backlog.revision not in pinned:
            advice = f"it began with revision {backlog.revision}, which no worker has now: bring that model back"
            yield Finding(WARNING, "work", message, advice)
        else:
            yield Finding(OK, "work", message)


def check_stuck_batches(batches: Iterable[TransitioningBatch]) -> Iterator[Finding]:
    """Batches that got stuck on their way in, or on their way to an early end."""
    for batch in batches:
        if batch.idle_seconds < STUCK_AFTER_SECONDS:
            continue
        silent = f"{batch.batch_id} is {batch.status} and was last heard of {format_duration(batch.idle_seconds)} ago"
        again = "submit it again, or give it up" if batch.status != "cancelling" else "go on"
        yield Finding(WARNING, "batches", silent, f"{again}: batchmill cancel {batch.batch_id}")


def check_schedules(statuses: Sequence[ScheduleStanding], undelivered_events: Mapping[str, int]) -> Iterator[Finding]:
    """Which schedules need a look: nobody decides their slots, the last one came to nothing, or nobody was told."""
    bad = [standing for standing in statuses if standing.needs_attention]
    if statuses and not bad and not undelivered_events:
        yield Finding(OK, "schedules", f"{len(statuses):,}, none of which needs a look")
    for standing in bad:
        name, slot = standing.view.name, standing.view.next_at if standing.last_run is None else standing.last_run.slot
        if standing.state == "overdue":
            advice = "nobody runs it: start a worker, or batchmill foreman; or see what batchmill schedule tick says"
            yield Finding(
                PROBLEM, "schedules", f"{name} is overdue since {_format_minute(standing.view.next_at)}", advice
            )
        else:
            message = f"{name}: the slot of {_format_minute(slot)} is {standing.state}{_error_suffix(standing)}"
            yield Finding(WARNING, "schedules", message, f"see batchmill schedule show {name}")
    for name, count in undelivered_events.items():
        message = f"{name}: {count:,} events of the last week never reached its webhook"
        yield Finding(
            WARNING, "schedules", message, f"see that it answers; what happened: batchmill schedule show {name}"
        )


def check_maintenance(
    maintenance_tasks: Iterable[MaintenanceTaskView], max_overdue_seconds: float
) -> Iterator[Finding]:
    """Whether somebody looks after things."""
    for duty in maintenance_tasks:
        ran = (
            "never ran"
            if duty.last_run_seconds_ago is None
            else f"ran {format_duration(duty.last_run_seconds_ago)} ago"
        )
        did = (
            f"; {format_duration(duty.last_effect_seconds_ago)} ago: {duty.last_effect}"
            if duty.last_effect_seconds_ago is not None
            else ""
        )
        message = f"{duty.name} {ran}{did}"
        if duty.last_failure is not None:
            advice = "it is tried again; the logs of workers and foreman say where that comes from"
            why = (
                f"by a defect ({duty.last_failure})"
                if duty.last_failure.isidentifier()
                else f"since {duty.last_failure}"
            )
            yield Finding(PROBLEM, "duties", f"{message}; it failed {why}", advice)
        elif duty.overdue_seconds > max_overdue_seconds:
            advice = "nobody does it: start a worker, or batchmill foreman"
            yield Finding(WARNING, "duties", f"{message}; overdue by {format_duration(duty.overdue_seconds)}", advice)
        else:
            yield Finding(OK, "duties", message)


def format_duration(seconds: float) -> str:
    """A length of time in its largest whole unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _format_minute(timestamp: datetime | None) -> str:
    return "its time" if timestamp is None else f"{timestamp:%Y-%m-%d %H:%M} UTC"


def _error_suffix(status: ScheduleStanding) -> str:
    code = None if status.last_run is None else status.last_run.error_code
    return "" if code is None else f" ({code})"


def _describe_backlog(backlog: Backlog, queue_depth: int | None, serving_workers: int) -> str:
    slices = [
        (backlog.queued, "wait"),
        (backlog.leased, "out"),
        (backlog.deferred, "put off"),
        (backlog.lease_expired, "lapsed"),
    ]
    told = ", ".join(f"{count:,} {how}" for count, how in slices if count)
    rung = "" if queue_depth is None else f"; bells: {queue_depth:,}"
    return f"{backlog.pipeline}: slices: {told}{rung}; workers: {serving_workers:,}"


def _format_bytes(byte_count: int) -> str:
    for unit, length in (("GB", 1 << 30), ("MB", 1 << 20)):
        if byte_count >= length:
            return f"{byte_count / length:,.1f} {unit}"
    return f"{byte_count / 1024:,.0f} kB"
