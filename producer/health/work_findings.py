"""Findings on waiting work, on the workers that serve it, and on batches without progress. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from models.lifecycle.seats import worker_name_for
from models.privacy.terminal import format_duration
from producer.batches import blockers
from producer.batches.blockers import LoadFailureView
from producer.health.database_stats import Backlog, TransitioningBatch
from producer.health.findings import OK, PROBLEM, WARNING, Finding
from producer.workers.workers import WorkerView

STUCK_AFTER_SECONDS = 600.0  # without progress; chunks of reading and of terminating take seconds
MAX_DEVICES_SHOWN = 16


def check_workers(workers: Sequence[WorkerView]) -> Iterator[Finding]:
    """Report the live workers and their pipelines, and warn about those without heartbeats."""
    alive = [worker for worker in workers if worker.alive]
    serves = sorted({pipeline for worker in alive for pipeline in worker.served_pipelines})
    devices = ", ".join(sorted({worker.device for worker in alive})[:MAX_DEVICES_SHOWN])
    message = f"{len(alive):,} alive" + (f" on {devices}, for {', '.join(serves)}" if serves else "")
    yield Finding(OK, "workers", message)
    for worker in workers:
        if not worker.alive:
            process = f"process {worker.pid} on {worker.host} ({worker.device})"
            message = f"the last heartbeat of {process} was {format_duration(worker.heartbeat_seconds_ago)} ago"
            yield Finding(WARNING, "workers", message, "see its log; its slices go to other workers")


def check_load_failures(load_failures: Sequence[LoadFailureView]) -> Iterator[Finding]:
    """Warn about pipelines that workers can't load; the workers try again."""
    advice = "fix that machine, its batchmill.toml or the model; other workers may serve the pipeline meanwhile"
    for failure in load_failures:
        yield Finding(WARNING, "models", failure.summary, advice)


def check_backlogs(
    backlogs: Sequence[Backlog],
    workers: Sequence[WorkerView],
    queue_depths: dict[str, int],
    load_failures: Sequence[LoadFailureView] = (),
    needed_guards: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Iterator[Finding]:
    """Check that live workers serve each pipeline's backlog.

    queue_depths: messages in the queue by pipeline; empty without Redis
    needed_guards: by pipeline, the guards of batches in progress
    """
    failing_workers = {(failure.worker_name, failure.pipeline) for failure in load_failures}
    revisions_waiting = Counter(backlog.pipeline for backlog in backlogs)
    if not backlogs:
        yield Finding(OK, "work", "nothing waits")
    for backlog in backlogs:
        pipeline = backlog.pipeline
        serving = [worker for worker in workers if worker.alive and pipeline in worker.served_pipelines]
        message = _describe_backlog(
            backlog, queue_depths.get(pipeline), len(serving), names_revision=revisions_waiting[pipeline] > 1
        )
        can_load = any((worker_name_for(worker.id), pipeline) not in failing_workers for worker in serving)
        if not serving:
            yield Finding(PROBLEM, "work", message, f"start a worker: batchmill up --pipelines {pipeline}")
        elif not can_load:
            yield Finding(PROBLEM, "work", message, "none of its workers can load it: see the findings on models")
        elif advice := _advise(backlog, serving, needed_guards.get(pipeline, ())):
            yield Finding(WARNING, "work", message, advice)
        else:
            yield Finding(OK, "work", message)


def _advise(backlog: Backlog, serving: Sequence[WorkerView], needed_guards: Sequence[str]) -> str:
    """Return what to do for a backlog that workers serve and yet may not finish; empty if nothing is wrong."""
    pipeline = backlog.pipeline
    if backlog.lease_expired:
        return "no process reclaims expired leases: see the workers' logs"
    revisions = {worker.revision for worker in serving if worker.pipeline == pipeline and worker.revision}
    if backlog.revision is not None and revisions and backlog.revision not in revisions:
        restore = blockers.restore_advice(backlog.revision)
        return f"it began with revision {backlog.revision}, which no worker has now: {restore}"
    if missing := _guards_of_none(serving, pipeline, needed_guards):
        return f"batches need guards that no worker has now: {', '.join(missing)}; put them back"
    return ""


def _guards_of_none(serving: Sequence[WorkerView], pipeline: str, needed: Collection[str]) -> list[str]:
    missing = set(needed).intersection(*(worker.missing_guards(pipeline, needed) for worker in serving))
    return sorted(missing)


def check_stuck_batches(batches: Iterable[TransitioningBatch]) -> Iterator[Finding]:
    """Warn about batches whose reading or termination has made no progress for ten minutes."""
    for batch in batches:
        if batch.idle_seconds < STUCK_AFTER_SECONDS:
            continue
        message = f"{batch.batch_id} is {batch.status} without progress for {format_duration(batch.idle_seconds)}"
        if batch.status == "cancelling":
            advice = "resume"
        elif batch.awaits_reading:
            advice = "start a server or a worker that has its file, or cancel it"
        else:
            advice = "submit it again, or cancel it"
        yield Finding(WARNING, "batches", message, f"{advice}: batchmill cancel {batch.batch_id}")


def _describe_backlog(
    backlog: Backlog, queue_depth: int | None, serving_workers: int, *, names_revision: bool = False
) -> str:
    counts = [
        (backlog.queued, "queued"),
        (backlog.leased, "leased"),
        (backlog.deferred, "waiting for retry"),
        (backlog.lease_expired, "lease expired"),
    ]
    slices = ", ".join(f"{count:,} {state}" for count, state in counts if count)
    wakeups = "" if queue_depth is None else f"; wakeups: {queue_depth:,}"
    revision = ""
    if names_revision:  # the pipeline has batches of several
        revision = " of no revision yet" if backlog.revision is None else f" of revision {backlog.revision}"
    return f"{backlog.pipeline}: slices{revision}: {slices}{wakeups}; workers: {serving_workers:,}"
