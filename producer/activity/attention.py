"""What needs attention: a short list that is decided from facts. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from models.privacy.terminal import format_count, format_duration
from models.states import BatchStatus
from producer.activity.failures import FailureCount
from producer.batches.blockers import LoadFailureView
from producer.schedules.history import run_verdicts
from producer.schedules.status import ScheduleStatus
from producer.workers.workers import WorkerView

PROBLEM, WARNING = "problem", "warning"
MAX_OF_A_KIND = 3  # the rest is counted
GUARD_BLOCKED = "guard_blocked"


@dataclass(frozen=True, slots=True)
class Attention:
    """One thing that a person should look at.

    subject: what it is about: batch, batches, schedule, pipeline, workers, maintenance or doctor
    name: its id or name; empty for many
    """

    level: str
    subject: str
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class TroubledBatch:
    """A batch of the last day that failed, expired, or has failed jobs."""

    id: str
    name: str | None
    pipeline: str
    status: BatchStatus
    total: int
    failed: int
    error_code: str | None

    @property
    def title(self) -> str:
        """How people know it."""
        return (self.name or self.id)[:80]


@dataclass(frozen=True, slots=True)
class StuckBatch:
    """The oldest batch of a pipeline, if no worker that is alive can run it.

    reason: what would have to change
    """

    id: str
    pipeline: str
    reason: str


@dataclass(frozen=True, slots=True)
class OpenDeadline:
    """A batch in progress that has a deadline."""

    id: str
    name: str | None
    pipeline: str
    unanswered: int
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What the decision is made from.

    unserved: pipelines with open work that no worker serves, each with its unanswered jobs
    stuck: batches of pipelines that workers serve, but not as the batch needs it
    paces: jobs per second by pipeline, of the last hour
    maintenance_failures: failures in a row, by task
    blocked: the jobs of the last day that guards blocked
    redis_trouble: why Redis does not answer; None if it does
    now: the clock of the schedules
    """

    now: datetime
    unserved: Sequence[tuple[str, int]] = ()
    stuck: Sequence[StuckBatch] = ()
    workers: Sequence[WorkerView] = ()
    load_failures: Sequence[LoadFailureView] = ()
    batches: Sequence[TroubledBatch] = ()
    deadlines: Sequence[OpenDeadline] = ()
    paces: Mapping[str, float] = field(default_factory=dict)
    blocked: Sequence[FailureCount] = ()
    schedules: Sequence[ScheduleStatus] = ()
    unreadable_schedules: str | None = None
    maintenance_failures: Mapping[str, int] = field(default_factory=dict)
    redis_trouble: str | None = None


def decide_attention(facts: Facts) -> list[Attention]:
    """Return what needs attention, problems first; empty if all is well."""
    found = [item for rule in RULES for item in _bound(list(rule(facts)))]
    return sorted(found, key=lambda item: item.level != PROBLEM)


def _bound(items: Sequence[Attention]) -> Iterator[Attention]:
    """The first items of a kind, and how many more there are."""
    kept = items if len(items) <= MAX_OF_A_KIND + 1 else items[:MAX_OF_A_KIND]
    yield from kept
    if more := items[len(kept) :]:
        many = {"batch": "batches", "pipeline": "pipelines", "schedule": "schedules"}.get(more[0].subject, "workers")
        yield Attention(more[0].level, many, "", f"{len(more):,} more {many} like these")


def _find_unserved(facts: Facts) -> Iterator[Attention]:
    failing = {failure.pipeline for failure in facts.load_failures}
    for pipeline, jobs in facts.unserved:
        if pipeline not in failing:
            waiting = "1 job waits" if jobs == 1 else f"{jobs:,} jobs wait"
            yield Attention(PROBLEM, "pipeline", pipeline, f"no worker serves {pipeline}, and {waiting} for it")


def _find_stuck(facts: Facts) -> Iterator[Attention]:
    for batch in facts.stuck:
        yield Attention(
            PROBLEM, "batch", batch.id, f"the oldest batch of {batch.pipeline} does not run: {batch.reason}"
        )


def _find_redis_trouble(facts: Facts) -> Iterator[Attention]:
    if facts.redis_trouble is not None:
        yield Attention(PROBLEM, "doctor", "", f"{facts.redis_trouble}; work goes on, but each slice starts later")


def _find_load_failures(facts: Facts) -> Iterator[Attention]:
    for failure in facts.load_failures:
        yield Attention(PROBLEM, "pipeline", failure.pipeline, failure.summary)


def _find_gone_workers(facts: Facts) -> Iterator[Attention]:
    for worker in facts.workers:
        if not worker.alive:
            age = format_duration(worker.heartbeat_seconds_ago)
            message = f"worker {worker.pid} on {worker.host} ({worker.pipeline}) has sent no heartbeat for {age}"
            yield Attention(WARNING, "workers", worker.id, message)


def _find_troubled_batches(facts: Facts) -> Iterator[Attention]:
    for batch in facts.batches:
        if batch.status in (BatchStatus.FAILED, BatchStatus.EXPIRED):
            code = f" with {batch.error_code}" if batch.error_code else ""
            yield Attention(PROBLEM, "batch", batch.id, f"{batch.title} {batch.status.value}{code}")


def _find_failed_jobs(facts: Facts) -> Iterator[Attention]:
    for batch in sorted(facts.batches, key=lambda batch: -batch.failed):
        if batch.failed and batch.status not in (BatchStatus.FAILED, BatchStatus.EXPIRED):
            message = f"{batch.title} has {batch.failed:,} failed of {format_count(batch.total, 'job')}"
            yield Attention(WARNING, "batch", batch.id, message)


def _find_deadlines(facts: Facts) -> Iterator[Attention]:
    for batch in facts.deadlines:
        pace = facts.paces.get(batch.pipeline)
        if not batch.unanswered or (pace and batch.unanswered / pace <= batch.seconds_left):
            continue
        left = format_duration(max(0.0, batch.seconds_left))
        title = (batch.name or batch.id)[:80]
        if pace:
            needed = format_duration(batch.unanswered / pace)
            message = f"{title} needs about {needed} at the pace of the last hour, and its deadline is in {left}"
            yield Attention(WARNING, "batch", batch.id, message)
        elif batch.seconds_left < 3600:
            message = (
                f"{title} has a deadline in {left}, and nothing was computed with {batch.pipeline} in the last hour"
            )
            yield Attention(WARNING, "batch", batch.id, message)


def _find_guard_blocks(facts: Facts) -> Iterator[Attention]:
    for count in facts.blocked:
        for pipeline, jobs in count.pipelines:
            message = f"guards blocked {format_count(jobs, 'row')} of {pipeline} in the last day"
            yield Attention(WARNING, "pipeline", pipeline, message)


def _find_schedules(facts: Facts) -> Iterator[Attention]:
    if facts.unreadable_schedules is not None:
        yield Attention(PROBLEM, "schedules", "", facts.unreadable_schedules)
    for status in facts.schedules:
        name, run = status.view.name, status.last_run
        error = f": {run.error_message}" if run is not None and run.error_message else ""
        if status.state == "overdue":
            yield Attention(PROBLEM, "schedule", name, f"schedule {name} is overdue: no worker starts its runs")
        elif status.state == "late":
            yield Attention(WARNING, "schedule", name, f"the run of schedule {name} is past its deadline")
        elif status.needs_attention:
            level = WARNING if status.state == "skipped" else PROBLEM
            yield Attention(level, "schedule", name, f"the last run of schedule {name} was {status.state}{error}")
        elif sentence := _drift_sentence(status):
            yield Attention(WARNING, "schedule", name, f"the results of schedule {name} drifted: {sentence}")


def _drift_sentence(status: ScheduleStatus) -> str:
    """The drift of the last run, if it is more than its schedule allows."""
    run = status.last_run
    if run is None or run.summary is None or not run_verdicts.has_drifted(run):
        return ""
    return str(run.summary["drift"].get("sentence", ""))[:300]


def _find_maintenance_failures(facts: Facts) -> Iterator[Attention]:
    for task, failures in facts.maintenance_failures.items():
        if failures:
            message = f"the maintenance task {task} failed {failures:,} times in a row"
            yield Attention(PROBLEM, "maintenance", task, message)


RULES: tuple[Callable[[Facts], Iterable[Attention]], ...] = (
    _find_unserved,
    _find_stuck,
    _find_load_failures,
    _find_troubled_batches,
    _find_failed_jobs,
    _find_deadlines,
    _find_schedules,
    _find_guard_blocks,
    _find_gone_workers,
    _find_maintenance_failures,
    _find_redis_trouble,
)
