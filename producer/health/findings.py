"""Findings: what the doctor makes of what it sees. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from models import schema
from models.lifecycle.seats import seat_of
from models.lifecycle.wakeups import Facts
from models.postgresql.grants import Purpose, quoted
from models.postgresql.privileges import Standing, command, named
from models.settings import Settings
from producer.batches.blockers import Failure
from producer.batches.workers import WorkerView
from producer.health.database_stats import Backlog, DutyView, Server, Unsettled
from producer.schedules.status import Standing as ScheduleStanding

OK, WARNING, PROBLEM = "ok", "warning", "problem"

STUCK_SECONDS = 600.0  # without news a batch is not on its way any more; chunks of either kind take seconds
CLOCKS_APART_SECONDS = 5.0
LITTLE_BYTES, NOTHING_BYTES = 1 << 30, 100 << 20  # a million short jobs with their results take about half of the first
FULL = 0.9  # of Redis' memory
OLDEST_REDIS = (6, 2)
DOING = {Purpose.READING: "read", Purpose.SUBMITTING: "submit", Purpose.WORKING: "work"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's: what was looked at, how it is, and what to do."""

    level: str  # ok | warning | problem
    what: str
    message: str
    advice: str | None = None
    unreachable: bool = False  # nothing behind it could be looked at

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill doctor --json` prints it."""
        return {"level": self.level, "what": self.what, "message": self.message, "advice": self.advice}


def of_disk(folder: Path, free_bytes: int) -> Iterator[Finding]:
    """Whether there is room where the embedded database or Valkey writes."""
    message = f"{_size(free_bytes)} free at {folder}"
    if free_bytes < LITTLE_BYTES:
        level = PROBLEM if free_bytes < NOTHING_BYTES else WARNING
        yield Finding(level, "disk", message, "make room: a full disk stops submitting and answering")
    else:
        yield Finding(OK, "disk", message)


def of_privacy(open_to_others: Iterable[Path]) -> Iterator[Finding]:
    """What of ours, which holds inputs and outputs, others on this machine may read."""
    for path in open_to_others:
        advice = f"if they are not to, run: chmod go-rwx {path}"
        yield Finding(WARNING, "privacy", f"others on this machine may read {path}", advice)


def of_limits(settings: Settings) -> Finding:
    """What sources may name and webhooks may call."""
    roots = settings.source_roots
    files = "any file here" if roots is None else f"files under {', '.join(map(str, roots)) or 'no folder'}"
    urls = f"{', '.join(settings.source_schemes)} URLs" if settings.source_schemes else "no URLs"
    hosts = ", ".join(settings.webhook_allowed_hosts)
    called = f"public addresses and {hosts}" if hosts else "public addresses only"
    return Finding(OK, "limits", f"sources: {files}, {urls}; webhooks: {called}")


def of_redis(facts: Facts, url: str) -> Iterator[Finding]:
    """What Redis is, and whether it may forget bells."""
    limit = f"{_size(facts.used_bytes)} used" + (f" of {_size(facts.limit_bytes)}" if facts.limit_bytes else "")
    message = f"{facts.kind} {facts.version} at {url}, {limit}, {facts.eviction}"
    if facts.kind == "Redis" and tuple(int(part) for part in facts.version.split(".")[:2]) < OLDEST_REDIS:
        yield Finding(PROBLEM, "redis", message, "Batchmill needs Redis 6.2 or later, or Valkey")
    elif facts.limit_bytes and facts.eviction != "noeviction":
        advice = "it may drop bells, and work begins later: set maxmemory-policy noeviction"
        yield Finding(WARNING, "redis", message, advice)
    elif facts.limit_bytes and facts.used_bytes > FULL * facts.limit_bytes:
        yield Finding(WARNING, "redis", message, "it is nearly full and will refuse bells: raise maxmemory")
    else:
        yield Finding(OK, "redis", message)


def of_database(server: Server, url: str) -> Finding:
    """What the database is, and whether its clock is ours."""
    message = f"{server.kind} {server.version} at {url}, tables {schema.HEAD}, {_size(server.size_bytes)}"
    if abs(server.ahead_seconds) <= CLOCKS_APART_SECONDS:
        return Finding(OK, "database", message)
    side = "ahead of" if server.ahead_seconds > 0 else "behind"
    apart = f"{message}, its clock {ago(abs(server.ahead_seconds))} {side} ours"
    return Finding(WARNING, "database", apart, "set the clocks: leases go by its clock, but logs by ours")


def of_role(standing: Standing) -> Iterator[Finding]:
    """What the database lets our role do, by purpose; that it is for less than everything is no fault."""
    role, name = standing.role, quoted(standing.role.name)
    if role.is_standby or role.only_reads:
        why = "a standby" if role.is_standby else f"read-only for role {name}"
        advice = "name its primary server" if role.is_standby else "see default_transaction_read_only"
        yield Finding(WARNING, "role", f"the database is {why}: nothing can be submitted or run", advice)
        return
    for purpose in Purpose:
        missing = standing.missing[purpose]
        if missing and (purpose is Purpose.READING or purpose in standing.begun):
            level = PROBLEM if purpose is Purpose.READING else WARNING
            said = f"role {name} can't {DOING[purpose]}: it lacks {named(missing)}"
            yield Finding(level, "role", said, f"its owner runs what this prints: {command(purpose, role.name)}")
            return
    may = [DOING[purpose] for purpose in Purpose if not standing.missing[purpose]]
    can_t = [DOING[purpose] for purpose in Purpose if standing.missing[purpose]]
    message = f"{name} may {' and '.join(may)}" + (f", and not {' or '.join(can_t)}" if can_t else "")
    yield Finding(OK, "role", message)


def of_workers(there: Sequence[WorkerView]) -> Iterator[Finding]:
    """Who works, on what, and who fell silent."""
    alive = [worker for worker in there if worker.alive]
    serves = sorted({pipeline for worker in alive for pipeline in worker.serves})
    message = f"{len(alive):,} alive" + (f", for {', '.join(serves)}" if serves else "")
    yield Finding(OK, "workers", message)
    for worker in there:
        if not worker.alive:
            silent = f"process {worker.pid} on {worker.host} ({worker.device}) was last heard of"
            yield Finding(
                WARNING, "workers", f"{silent} {ago(worker.heartbeat_seconds_ago)} ago",
                "see what became of it; its work is given to others",
            )  # fmt: skip


def of_load_failures(failed: Sequence[Failure]) -> Iterator[Finding]:
    """What workers can't load, and why; they try again by themselves."""
    for failure in failed:
        yield Finding(
            WARNING, "models", failure.sentence,
            "mend that machine, its batchmill.toml or the model; other workers may serve it meanwhile",
        )  # fmt: skip


def of_backlogs(
    backlogs: Sequence[Backlog], there: Sequence[WorkerView], bells: dict[str, int], failed: Sequence[Failure] = ()
) -> Iterator[Finding]:
    """What waits, against who is there to do it. `bells` may lack a pipeline: Redis did not say."""
    broken = {(failure.seat, failure.pipeline) for failure in failed}
    if not backlogs:
        yield Finding(OK, "work", "nothing waits")
    for backlog in backlogs:
        pipeline = backlog.pipeline
        serving = [worker for worker in there if worker.alive and pipeline in worker.serves]
        able = [worker for worker in serving if (seat_of(worker.id), pipeline) not in broken]
        pinned = {worker.revision for worker in serving if worker.pipeline == pipeline and worker.revision}
        message = _work(backlog, bells.get(pipeline), len(serving))
        if not serving:
            yield Finding(PROBLEM, "work", message, f"start a worker: batchmill up --pipelines {pipeline}")
        elif not able:
            yield Finding(PROBLEM, "work", message, "none of its workers can load it: see the findings on models")
        elif backlog.lapsed:
            yield Finding(WARNING, "work", message, "nobody reclaims what lapsed: see the workers' logs")
        elif backlog.revision is not None and pinned and backlog.revision not in pinned:
            advice = f"it began with revision {backlog.revision}, which no worker has now: bring that model back"
            yield Finding(WARNING, "work", message, advice)
        else:
            yield Finding(OK, "work", message)


def of_unsettled(found: Iterable[Unsettled]) -> Iterator[Finding]:
    """Batches that got stuck on their way in, or on their way to an early end."""
    for batch in found:
        if batch.silent_seconds < STUCK_SECONDS:
            continue
        silent = f"{batch.batch_id} is {batch.status} and was last heard of {ago(batch.silent_seconds)} ago"
        again = "submit it again, or give it up" if batch.status != "cancelling" else "go on"
        yield Finding(WARNING, "batches", silent, f"{again}: batchmill cancel {batch.batch_id}")


def of_schedules(standings: Sequence[ScheduleStanding], given_up: Mapping[str, int]) -> Iterator[Finding]:
    """Which schedules need a look: nobody decides their slots, the last one came to nothing, or nobody was told."""
    bad = [standing for standing in standings if standing.bad]
    if standings and not bad and not given_up:
        yield Finding(OK, "schedules", f"{len(standings):,}, none of which needs a look")
    for standing in bad:
        name, slot = standing.view.name, standing.view.next_at if standing.last is None else standing.last.slot
        if standing.state == "overdue":
            advice = "nobody runs it: start a worker, or batchmill foreman; or see what batchmill schedule tick says"
            yield Finding(PROBLEM, "schedules", f"{name} is overdue since {_minute(standing.view.next_at)}", advice)
        else:
            message = f"{name}: the slot of {_minute(slot)} is {standing.state}{_why(standing)}"
            yield Finding(WARNING, "schedules", message, f"see batchmill schedule show {name}")
    for name, count in given_up.items():
        message = f"{name}: {count:,} events of the last week never reached its webhook"
        yield Finding(
            WARNING, "schedules", message, f"see that it answers; what happened: batchmill schedule show {name}"
        )


def of_duties(found: Iterable[DutyView], patience_seconds: float) -> Iterator[Finding]:
    """Whether somebody looks after things."""
    for duty in found:
        ran = "never ran" if duty.ran_seconds_ago is None else f"ran {ago(duty.ran_seconds_ago)} ago"
        did = f"; {ago(duty.acted_seconds_ago)} ago: {duty.acted}" if duty.acted_seconds_ago is not None else ""
        message = f"{duty.name} {ran}{did}"
        if duty.failure is not None:
            advice = "it is tried again; the logs of workers and foreman say where that comes from"
            why = f"by a defect ({duty.failure})" if duty.failure.isidentifier() else f"since {duty.failure}"
            yield Finding(PROBLEM, "duties", f"{message}; it failed {why}", advice)
        elif duty.overdue_seconds > patience_seconds:
            advice = "nobody does it: start a worker, or batchmill foreman"
            yield Finding(WARNING, "duties", f"{message}; overdue by {ago(duty.overdue_seconds)}", advice)
        else:
            yield Finding(OK, "duties", message)


def ago(seconds: float) -> str:
    """A length of time in its largest whole unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _minute(moment: datetime | None) -> str:
    return "its time" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def _why(standing: ScheduleStanding) -> str:
    code = None if standing.last is None else standing.last.error_code
    return "" if code is None else f" ({code})"


def _work(backlog: Backlog, bells: int | None, serving: int) -> str:
    slices = [
        (backlog.queued, "wait"),
        (backlog.leased, "out"),
        (backlog.put_off, "put off"),
        (backlog.lapsed, "lapsed"),
    ]
    told = ", ".join(f"{count:,} {how}" for count, how in slices if count)
    rung = "" if bells is None else f"; bells: {bells:,}"
    return f"{backlog.pipeline}: slices: {told}{rung}; workers: {serving:,}"


def _size(count: int) -> str:
    for unit, length in (("GB", 1 << 30), ("MB", 1 << 20)):
        if count >= length:
            return f"{count / length:,.1f} {unit}"
    return f"{count / 1024:,.0f} kB"
