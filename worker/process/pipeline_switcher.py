"""The pipeline switcher loads one pipeline at a time and runs an engine on its backlog.

A failed load affects only this process and this pipeline; see `load_failures`.
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
from worker.engine.claim_size import ClaimSizer
from worker.engine.engine import Engine
from worker.engine.token_budget import TokenBudgetTuner
from worker.engine.wakeup import WakeupSignal
from worker.engine.watchdog import Watchdog
from worker.failures import is_device_lost
from worker.leasing import claims, load_failures
from worker.leasing.database_refusal import OnRefusal
from worker.leasing.leases import Claimant, HeldLeases
from worker.leasing.load_backoff import LoadBackoff
from worker.leasing.load_failures import LoadLocation
from worker.leasing.retry import retry_while_unreachable
from worker.loading import load_errors, model_cache, versions
from worker.loading.model_cache import ModelCache
from worker.process.heartbeat import Heartbeat
from worker.process.switch_policy import LoadTarget, SwitchPolicy

if TYPE_CHECKING:
    from worker.loading.runtime import Runtime

log = structlog.get_logger(__name__)

FORWARD_SHARE_OF_GRACE = 0.5  # the share for the forward pass; the rest is for writing results and releasing slices
JOIN_POLL_SECONDS = 0.1  # between checks whether the thread is loading a model
BYTES_PER_GIGABYTE = 1e9

RuntimeLoader = Callable[[Pipeline], "Runtime"]


def _retry_backoff(settings: Settings) -> Callable[[int], float]:
    rng = Random()  # noqa: S311 - jitter keeps no secret
    return lambda tries: backoff.backoff_seconds(tries, settings.retry_base_seconds, settings.max_retry_seconds, rng)


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The settings, connections and callbacks that all pipelines of one process share."""

    worker_id: str
    settings: Settings
    database: Database
    wakeup_signal: WakeupSignal
    held_leases: HeldLeases
    heartbeat: Heartbeat
    on_fatal_error: Callable[[], None]
    on_hang: Callable[[], None]
    on_refusal: OnRefusal | None = None
    device: str = "auto"
    claim_database: Database | None = None  # shared with the heartbeat; None = `database`

    @property
    def location(self) -> LoadLocation:
        """The host and device on which this process loads models."""
        return LoadLocation(self.worker_id, socket.gethostname(), self.device)


@dataclass(frozen=True, slots=True)
class ActivePipeline:
    """A pipeline on the device and the engine that runs it."""

    target: LoadTarget
    pipeline: Pipeline
    runtime: "Runtime"
    engine: Engine
    token_budget: TokenBudgetTuner
    saved_token_budget: int | None  # as stored in SQL, None = nothing stored


class PipelineSwitcher:
    """Loads the first pipeline that has work, and later switches as the switch policy decides.

    A failed load is retried indefinitely, with backoff, and does not block the other pipelines. A dedicated thread
    calls `run_once` and does all the loading.
    """

    def __init__(self, context: WorkerContext, pipelines: Mapping[str, Pipeline], load_runtime: RuntimeLoader) -> None:
        settings = context.settings
        self._context = context
        self._pipelines = pipelines
        self._load_runtime = load_runtime
        self._switch_policy = SwitchPolicy(list(pipelines), settings.switch_after_seconds)
        self._model_cache = ModelCache(settings.model_cache_gb * BYTES_PER_GIGABYTE)
        self._claim_sizers = {
            name: ClaimSizer(settings.target_claim_seconds, settings.max_claim_jobs) for name in pipelines
        }
        self._load_backoff = LoadBackoff(Random())  # noqa: S311 - jitter keeps no secret
        self._load_watchdog = Watchdog(settings.load_timeout_seconds, context.on_hang)
        self._resolved_revisions: dict[str, str] = {}  # the revision that each catalogue entry last resolved to
        self._active: ActivePipeline | None = None
        self._is_loading = False
        self._engine_idle = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pinning", daemon=True)

    def start(self) -> None:
        """Start the loading thread."""
        self._load_watchdog.start()
        self._thread.start()

    def stop(self) -> None:
        """Let the engine finish its micro-batch and load nothing more; returns at once, safe in a signal handler."""
        self._stopping.set()
        self._engine_idle.set()
        pinned = self._active
        if pinned is not None:
            pinned.engine.stop(self._context.settings.grace_seconds * FORWARD_SHARE_OF_GRACE)

    def join(self) -> None:
        """Wait until the engine has stopped and released its slices, but not for a load in progress."""
        while self._thread.is_alive() and not self._is_loading:
            self._thread.join(JOIN_POLL_SECONDS)
        self._load_watchdog.stop()
        if self._active is not None:
            self._drain(self._active)

    def run_once(self, now: float) -> bool:
        """Load another pipeline if the policy asks for one; returns whether a load was tried. Raises Unreachable."""
        pinned = self._active
        busy = bool(self._context.held_leases.leases())
        target = self._switch_policy.choose(
            pinned.target if pinned else None, self._claimable_targets(now), now, is_busy=busy
        )
        if target is None and pinned is None:
            target = self._next_due_target(now)
        if target is None or self._stopping.is_set():
            return False
        started = time.monotonic()
        self._deactivate()
        try:
            self._activate(target)
        except DatabaseRefused:
            raise
        except BatchmillError as error:
            self._handle_load_failure(target, error, time.monotonic() - started)
        else:
            log.info(
                "model.switched",
                previous_pipeline=pinned and pinned.pipeline.name,
                pipeline=target.pipeline,
                seconds=round(time.monotonic() - started, 2),
            )
        return True

    def _next_due_target(self, now: float) -> LoadTarget | None:
        """Return the target to load when no pipeline has work: the first one, or the one that has been due longest."""
        due = [LoadTarget(name) for name in self._pipelines if self._load_backoff.is_due(LoadTarget(name), now)]
        return min(due, key=self._load_backoff.due_at, default=None)

    def _loop(self) -> None:
        try:
            self._restore_load_backoff()
            while not self._stopping.is_set():
                if not self._try_run_once() and not self._stopping.is_set():
                    if self._can_never_switch:
                        return
                    self._engine_idle.wait(self._context.settings.poll_interval_seconds)
                self._engine_idle.clear()
        except Exception as error:
            if isinstance(error, DatabaseRefused) and self._context.on_refusal is not None:
                self._context.on_refusal(error)
            log.exception("switcher.crashed")
            self._context.on_fatal_error()

    def _try_run_once(self) -> bool:
        try:
            return self.run_once(time.monotonic())
        except Unreachable as error:
            log.warning("database.unreachable", operation="backlog", error=str(error))
            return False

    @property
    def _can_never_switch(self) -> bool:
        """Whether this process serves one pipeline only, whose model is a folder and so has one revision."""
        return self._active is not None and len(self._pipelines) == 1 and self._active.pipeline.folder is not None

    def _restore_load_backoff(self) -> None:
        """Restore the backoff of loads that crashed an earlier process, so that other pipelines load first."""
        process, now = self._context, time.monotonic()
        for name, (tries, seconds) in retry_while_unreachable(
            lambda _again: load_failures.failures_for_seat(process.database, process.worker_id)
        ).items():
            self._load_backoff.restore(LoadTarget(name), tries, now + seconds)

    def _claimable_targets(self, now: float) -> set[LoadTarget]:
        """Return the targets with claimable work, except those in backoff after a failed load."""
        if len(self._pipelines) == 1 and self._active is None:
            return set()  # no choice to make, and the database may be unreachable
        found = set()
        for row in claims.claimable_pipelines(self._context.database, list(self._pipelines)):
            pipeline = self._pipelines[row.pipeline]
            if row.task == pipeline.task and (target := self._target_for(pipeline, row.revision)):
                found.add(target)
        return {target for target in found if self._load_backoff.is_due(target, now)}

    def _target_for(self, pipeline: Pipeline, revision: str | None) -> LoadTarget | None:
        """Return the target for a batch with this revision; None if a model folder has other content here."""
        pinned = self._active
        if pinned is not None and pinned.pipeline.name == pipeline.name and revision == pinned.runtime.version.revision:
            return pinned.target
        if revision in (None, pipeline.revision, self._resolved_revisions.get(pipeline.name, revision)):
            return LoadTarget(pipeline.name)
        # The branch on the Hub has moved since the batch began, but its commit can still be fetched.
        return None if pipeline.folder is not None else LoadTarget(pipeline.name, revision)

    def _activate(self, target: LoadTarget) -> None:
        process = self._context
        pipeline = self._pipelines[target.pipeline]
        if target.revision is not None:
            pipeline = pipeline.model_copy(update={"revision": target.revision})
        runtime = self._get_runtime(target, pipeline)
        if self._stopping.is_set():
            return
        version = runtime.version
        if target.revision is None:
            self._resolved_revisions[pipeline.name] = version.revision
        self._load_backoff.record_success(target)
        model_cache.freeze_gc()
        claimant = Claimant(
            process.worker_id,
            pipeline.name,
            pipeline.task,
            version.model,
            version.revision,
            process.settings.lease_seconds,
            can_begin_batches=target.revision is None,
        )
        version_id = retry_while_unreachable(lambda _again: versions.register_version(process.database, version))
        known = retry_while_unreachable(
            lambda _again: versions.load_token_budget(process.database, pipeline.name, version)
        )
        tokens = known if known and runtime.tunable else runtime.micro_batch_tokens
        budget = TokenBudgetTuner(tokens, tunable=runtime.tunable, max_tokens=runtime.max_micro_batch_tokens)
        retry_while_unreachable(lambda _again: self._record_ready(claimant, version.device))
        engine = Engine(
            process.database,
            runtime,
            claimant,
            process.wakeup_signal,
            process.held_leases,
            self._claim_sizers[pipeline.name],
            version_id=version_id,
            slice_size=process.settings.slice_size,
            poll_interval_seconds=process.settings.poll_interval_seconds,
            linger_seconds=process.settings.linger_ms / 1000,
            prefetch_bytes=round(process.settings.max_prepared_mb * 2**20),
            token_budget=budget,
            max_attempts=process.settings.max_attempts,
            backoff=_retry_backoff(process.settings),
            watchdog=Watchdog(pipeline.pass_seconds or process.settings.forward_timeout_seconds, process.on_hang),
            on_fatal_error=process.on_fatal_error,
            on_idle=self._engine_idle.set,
            on_refusal=process.on_refusal,
            claim_database=process.claim_database,
        )
        self._active = ActivePipeline(target, pipeline, runtime, engine, budget, known)
        engine.start()
        if self._stopping.is_set():  # `stop` may have come before there was an engine
            engine.stop()

    def _get_runtime(self, target: LoadTarget, pipeline: Pipeline) -> "Runtime":
        """Return the runtime from memory or from its files. Raises only BatchmillErrors."""
        self._is_loading = True
        try:
            self._record_state(WorkerState.LOADING, pipeline)
            with self._load_watchdog.watch():
                runtime = self._model_cache.pop(target) or self._load_runtime(pipeline)
            if target.revision not in (None, runtime.version.revision):
                raise LoadFailed(f"{pipeline.model} came as {runtime.version.revision}, not as {target.revision}")
            return runtime
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in a library written in Rust is no Exception
            raise load_errors.classify(error, pipeline.model) from error
        finally:
            self._is_loading = False

    def _record_state(self, state: WorkerState, pipeline: Pipeline) -> None:
        process = self._context
        try:
            process.heartbeat.record_state(state, process.worker_id, pipeline, process.device)
        except (DatabaseRefused, Unreachable) as error:
            log.warning("worker.update_failed", state=state.value, error=str(error))

    def _record_ready(self, claimant: Claimant, device: str) -> None:
        process = self._context
        process.heartbeat.record_ready(claimant, device)
        with process.database.write() as connection:
            load_failures.clear(connection, process.worker_id, claimant.pipeline)

    def _deactivate(self) -> None:
        pinned = self._active
        if pinned is None:
            return
        pinned.engine.stop()
        self._drain(pinned)
        self._active = None
        self._model_cache.put(pinned.target, pinned.runtime)
        del pinned
        model_cache.release_memory()

    def _drain(self, active: ActivePipeline) -> None:
        released_count = len(active.engine.join())
        self._save_token_budget(active)
        try:
            wakeups.send_wakeups(self._context.settings, active.pipeline.name, released_count)
        except Unreachable as error:
            log.warning(
                "wakeups.send_failed",
                pipeline=active.pipeline.name,
                error=str(error),
                reason="workers find released slices by polling SQL",
            )

    def _save_token_budget(self, active: ActivePipeline) -> None:
        name, tokens = active.pipeline.name, active.token_budget.tokens
        if active.runtime.tunable and tokens != active.saved_token_budget:
            try:
                versions.save_token_budget(self._context.database, name, active.runtime.version, tokens)
            except Unreachable as error:
                log.warning("token_budget.save_failed", pipeline=name, micro_batch_tokens=tokens, error=str(error))

    def _handle_load_failure(self, target: LoadTarget, error: BatchmillError, load_seconds: float) -> None:
        """Record the failure, delay the next try, and fail the batches that no worker can serve."""
        self._switch_policy.move_to_back(target)
        tries, pause, is_new = self._load_backoff.record_failure(target, str(error), time.monotonic(), load_seconds)
        cause, pipeline = error.__cause__, self._pipelines[target.pipeline]
        log.error(
            "model.load_failed",
            pipeline=target.pipeline,
            error_code=error.code,
            error=str(error),
            attempts=tries,
            retry_seconds=round(pause, 1),
            exc_info=cause if is_new and not isinstance(cause, BatchmillError) else None,
        )
        self._record_state(WorkerState.IDLE, pipeline)
        try:
            self._record_load_failure(pipeline, error, pause)
        except (DatabaseRefused, Unreachable) as away:
            log.warning("load_failure.save_failed", pipeline=target.pipeline, error=str(away))
        if cause is not None and is_device_lost(cause):  # only a new process can use the device again
            self._context.on_fatal_error()
        model_cache.release_memory()

    def _record_load_failure(self, pipeline: Pipeline, error: BatchmillError, retry_seconds: float) -> None:
        process = self._context
        load_failures.record(process.database, process.location, pipeline.name, pipeline.model, error, retry_seconds)
        if isinstance(error, ModelError):
            for batch_id in load_failures.fail_unservable_batches(
                process.database, process.location, pipeline, error, process.settings.lease_seconds
            ):
                log.error("batch.ended", batch_id=batch_id, status="failed", error_code=error.code, error=str(error))
