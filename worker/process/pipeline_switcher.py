"""Pinning: one pipeline at a time is loaded in this process, and an engine works through its backlog.

A pipeline that can't be loaded is this process' trouble, and that pipeline's alone: see `load_failures`.
"""

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import structlog

from models import backoff
from models.db import Database
from models.errors import BatchmillError, DatabaseRefused, LoadFailed, ModelError, Unreachable
from models.lifecycle import wakeups
from models.pipelines.pipeline import Pipeline
from models.settings import Settings
from models.states import WorkerState
from worker.engine.claim_size import Pace
from worker.engine.engine import Engine
from worker.engine.token_budget import Budget
from worker.engine.wakeup import Doorbell
from worker.engine.watchdog import Watchdog
from worker.failures import breaks
from worker.leasing import claims, load_failures
from worker.leasing.database_refusal import OnRefusal
from worker.leasing.leases import Claimant, Holdings
from worker.leasing.load_backoff import LoadBackoff
from worker.leasing.load_failures import Place
from worker.leasing.retry import patiently
from worker.loading import load_errors, model_cache, versions
from worker.loading.model_cache import RuntimeCache
from worker.process.heartbeat import Heartbeat
from worker.process.switch_policy import Rotation, Target

if TYPE_CHECKING:
    from worker.loading.runtime import Runtime

log = structlog.get_logger(__name__)

PATIENCE = 0.5  # the share of the grace in which a pass may be finished; what is left is for writing and giving back
JOIN_SECONDS = 0.1  # between two looks whether the thread is in the middle of a load
GIGABYTE = 1e9

Load = Callable[[Pipeline], "Runtime"]


def _backoff(settings: Settings) -> Callable[[int], float]:
    rng = Random()  # noqa: S311 - jitter keeps no secret
    return lambda tries: backoff.backoff(tries, settings.retry_seconds, settings.longest_retry_seconds, rng)


@dataclass(frozen=True, slots=True)
class Process:
    """What all pipelines of one process share."""

    worker_id: str
    settings: Settings
    database: Database
    doorbell: Doorbell
    holdings: Holdings
    heartbeat: Heartbeat
    on_defect: Callable[[], None]
    on_hang: Callable[[], None]
    on_refusal: OnRefusal | None = None
    device: str = "auto"
    claiming: Database | None = None  # for claims alone, beside the heartbeat; unset: `database`

    @property
    def place(self) -> Place:
        """Where this process loads models."""
        return Place(self.worker_id, socket.gethostname(), self.device)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A pipeline on the device and the engine that runs it."""

    target: Target
    pipeline: Pipeline
    runtime: "Runtime"
    engine: Engine
    budget: Budget
    known: int | None  # the budget that was remembered


class Pinning:
    """Loads the first pipeline that has work, and from then on whichever the rotation names.

    A pipeline that can't be loaded is tried again for ever, with backoff, and keeps none of the others from being
    served. `run_once` is called by one thread of its own, which does all the loading.
    """

    def __init__(self, process: Process, pipelines: Mapping[str, Pipeline], load: Load) -> None:
        settings = process.settings
        self._process = process
        self._pipelines = pipelines
        self._load = load
        self._rotation = Rotation(list(pipelines), settings.max_wait_seconds)
        self._cache = RuntimeCache(settings.cache_gb * GIGABYTE)
        self._paces = {name: Pace(settings.window_seconds, settings.window_jobs) for name in pipelines}
        self._backoff = LoadBackoff(Random())  # noqa: S311 - jitter keeps no secret
        self._watchdog = Watchdog(settings.load_seconds, process.on_hang)
        self._revisions: dict[str, str] = {}  # that the catalogue's came to when it was loaded last
        self._pinned: Pinned | None = None
        self._loading = False
        self._idle = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pinning", daemon=True)

    def start(self) -> None:
        """Begin to load, in a thread of its own."""
        self._watchdog.start()
        self._thread.start()

    def stop(self) -> None:
        """Have the engine finish its micro-batch, and load nothing more; returns at once, fit for a signal handler."""
        self._stopping.set()
        self._idle.set()
        pinned = self._pinned
        if pinned is not None:
            pinned.engine.stop(self._process.settings.grace_seconds * PATIENCE)

    def join(self) -> None:
        """Wait for the end of the engine, having given back what it held. A load that is under way is left alone."""
        while self._thread.is_alive() and not self._loading:
            self._thread.join(JOIN_SECONDS)
        self._watchdog.stop()
        if self._pinned is not None:
            self._finish(self._pinned)

    def run_once(self, now: float) -> bool:
        """Load another pipeline if it is time; returns whether one was tried. Raises Unreachable."""
        pinned = self._pinned
        busy = bool(self._process.holdings.leases())
        target = self._rotation.next(pinned.target if pinned else None, self._waiting(now), now, busy=busy)
        if target is None and pinned is None:
            target = self._first_due(now)
        if target is None or self._stopping.is_set():
            return False
        started = time.monotonic()
        self._unpin()
        try:
            self._pin(target)
        except DatabaseRefused:
            raise
        except BatchmillError as error:
            self._give_up(target, error, time.monotonic() - started)
        else:
            log.info(
                "pipeline changed", before=pinned and pinned.pipeline.name, pipeline=target.pipeline,
                seconds=round(time.monotonic() - started, 2),
            )  # fmt: skip
        return True

    def _first_due(self, now: float) -> Target | None:
        """What to load where nothing waits: the first of the pipelines, or the one whose pause is over for longest."""
        due = [Target(name) for name in self._pipelines if self._backoff.is_due(Target(name), now)]
        return min(due, key=self._backoff.due_at, default=None)

    def _loop(self) -> None:
        try:
            self._remember_rests()
            while not self._stopping.is_set():
                if not self._tried() and not self._stopping.is_set():
                    if self._is_settled:
                        return
                    self._idle.wait(self._process.settings.duty_seconds)
                self._idle.clear()
        except Exception as error:
            if isinstance(error, DatabaseRefused) and self._process.on_refusal is not None:
                self._process.on_refusal(error)
            log.exception("a defect in pinning")
            self._process.on_defect()

    def _tried(self) -> bool:
        try:
            return self.run_once(time.monotonic())
        except Unreachable as error:
            log.warning("can't see what waits, will look again", error=str(error))
            return False

    @property
    def _is_settled(self) -> bool:
        """Whether there is nothing that this process could ever change to: it has one pipeline, which is a folder."""
        return self._pinned is not None and len(self._pipelines) == 1 and self._pinned.pipeline.folder is not None

    def _remember_rests(self) -> None:
        """A process before this one may have ended over a pipeline: begin with the others."""
        process, now = self._process, time.monotonic()
        for name, (tries, seconds) in patiently(
            lambda _again: load_failures.of_seat(process.database, process.worker_id)
        ).items():
            self._backoff.resume(Target(name), tries, now + seconds)

    def _waiting(self, now: float) -> set[Target]:
        """What has work that could be claimed now, less what rests after a load that failed."""
        if len(self._pipelines) == 1 and self._pinned is None:
            return set()  # there is no choice, and the database may be unreachable
        found = set()
        for row in claims.waiting(self._process.database, list(self._pipelines)):
            pipeline = self._pipelines[row.pipeline]
            if row.task == pipeline.task and (target := self._target(pipeline, row.revision)):
                found.add(target)
        return {target for target in found if self._backoff.is_due(target, now)}

    def _target(self, pipeline: Pipeline, revision: str | None) -> Target | None:
        """What to load for a batch with this revision; None where this process has another one of it for good."""
        pinned = self._pinned
        if pinned is not None and pinned.pipeline.name == pipeline.name and revision == pinned.runtime.version.revision:
            return pinned.target
        if revision in (None, pipeline.revision, self._revisions.get(pipeline.name, revision)):
            return Target(pipeline.name)
        # A branch of the Hub has moved since the batch began: its commit can still be had.
        return None if pipeline.folder is not None else Target(pipeline.name, revision)

    def _pin(self, target: Target) -> None:
        process = self._process
        pipeline = self._pipelines[target.pipeline]
        if target.revision is not None:
            pipeline = pipeline.model_copy(update={"revision": target.revision})
        runtime = self._loaded(target, pipeline)
        if self._stopping.is_set():
            return
        version = runtime.version
        if target.revision is None:
            self._revisions[pipeline.name] = version.revision
        self._backoff.succeeded(target)
        model_cache.settle()
        claimant = Claimant(
            process.worker_id, pipeline.name, pipeline.task, version.model, version.revision,
            process.settings.lease_seconds, settles=target.revision is None,
        )  # fmt: skip
        version_id = patiently(lambda _again: versions.register(process.database, version))
        known = patiently(lambda _again: versions.remembered_budget(process.database, pipeline.name, version))
        tokens = known if known and runtime.tunes else runtime.tokens_per_batch
        budget = Budget(tokens, tunes=runtime.tunes, largest=runtime.most_tokens)
        patiently(lambda _again: self._note_ready(claimant, version.device))
        engine = Engine(
            process.database, runtime, claimant, process.doorbell, process.holdings, self._paces[pipeline.name],
            version_id=version_id, slice_jobs=process.settings.slice_jobs, idle_seconds=process.settings.duty_seconds,
            linger_seconds=process.settings.linger_ms / 1000, window_bytes=round(process.settings.window_mb * 2**20),
            budget=budget,
            max_attempts=process.settings.max_attempts, backoff=_backoff(process.settings),
            watchdog=Watchdog(pipeline.pass_seconds or process.settings.pass_seconds, process.on_hang),
            on_defect=process.on_defect, on_idle=self._idle.set, on_refusal=process.on_refusal,
            claiming=process.claiming,
        )  # fmt: skip
        self._pinned = Pinned(target, pipeline, runtime, engine, budget, known)
        engine.start()
        if self._stopping.is_set():  # `stop` may have come before there was an engine
            engine.stop()

    def _loaded(self, target: Target, pipeline: Pipeline) -> "Runtime":
        """The runtime, from memory or from its files; raises a BatchmillError whatever happens."""
        self._loading = True
        try:
            self._record(WorkerState.LOADING, pipeline)
            with self._watchdog.watching():
                runtime = self._cache.take(target) or self._load(pipeline)
            if target.revision not in (None, runtime.version.revision):
                raise LoadFailed(f"{pipeline.model} came as {runtime.version.revision}, not as {target.revision}")
            return runtime
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in a library written in Rust is no Exception
            raise load_errors.classified(error, pipeline.model) from error
        finally:
            self._loading = False

    def _record(self, state: WorkerState, pipeline: Pipeline) -> None:
        process = self._process
        try:
            process.heartbeat.record(state, process.worker_id, pipeline, process.device)
        except (DatabaseRefused, Unreachable) as error:
            log.warning("can't record the state of this worker", state=state.value, error=str(error))

    def _note_ready(self, claimant: Claimant, device: str) -> None:
        process = self._process
        process.heartbeat.pinned(claimant, device)
        with process.database.write() as connection:
            load_failures.clear(connection, process.worker_id, claimant.pipeline)

    def _unpin(self) -> None:
        pinned = self._pinned
        if pinned is None:
            return
        pinned.engine.stop()
        self._finish(pinned)
        self._pinned = None
        self._cache.put(pinned.target, pinned.runtime)
        del pinned
        model_cache.free()

    def _finish(self, pinned: Pinned) -> None:
        released = [lease.slice_id for lease in pinned.engine.join()]
        self._remember(pinned)
        try:
            if released:
                wakeups.ring(self._process.settings, pinned.pipeline.name, released)
        except Unreachable as error:
            log.warning("could not ring for what was given back; others will find it in SQL", error=str(error))

    def _remember(self, pinned: Pinned) -> None:
        name, tokens = pinned.pipeline.name, pinned.budget.tokens
        if pinned.runtime.tunes and tokens != pinned.known:
            try:
                versions.remember_budget(self._process.database, name, pinned.runtime.version, tokens)
            except Unreachable as error:
                log.warning("could not remember the budget", pipeline=name, tokens=tokens, error=str(error))

    def _give_up(self, target: Target, error: BatchmillError, seconds: float) -> None:
        """Put the pipeline off, record why, and fail the batches that nobody can serve because of it."""
        self._rotation.failed(target)
        tries, pause, is_new = self._backoff.failed(target, str(error), time.monotonic(), seconds)
        cause, pipeline = error.__cause__, self._pipelines[target.pipeline]
        log.error(
            "pipeline can't be loaded", failed=target.pipeline, code=error.code, error=str(error), tries=tries,
            seconds=round(pause, 1), exc_info=cause if is_new and not isinstance(cause, BatchmillError) else None,
        )  # fmt: skip
        self._record(WorkerState.IDLE, pipeline)
        try:
            self._record_failure(pipeline, error, pause)
        except (DatabaseRefused, Unreachable) as away:
            log.warning("can't record what could not be loaded", failed=target.pipeline, error=str(away))
        if cause is not None and breaks(cause):  # only a new process can use the device again
            self._process.on_defect()
        model_cache.free()

    def _record_failure(self, pipeline: Pipeline, error: BatchmillError, pause: float) -> None:
        process = self._process
        load_failures.record(process.database, process.place, pipeline.name, pipeline.model, error, pause)
        if isinstance(error, ModelError):
            for batch_id in load_failures.fail_batches(
                process.database, process.place, pipeline, error, process.settings.lease_seconds
            ):
                log.error("batch failed", batch=batch_id, code=error.code, error=str(error))
