"""The pipeline switcher keeps one pipeline loaded at a time and runs an engine on its backlog.

A failed load affects only this process and this pipeline; see `load_failures`.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from models.errors import BatchmillError, DatabaseRefused, Unreachable
from models.lifecycle import wakeups
from models.pipelines.pipeline import Pipeline
from worker.engine.context import LoadedPipeline, WorkerContext
from worker.engine.engine import Engine
from worker.failures import is_device_lost
from worker.loading import model_cache
from worker.process.pipeline_loader import PipelineLoader
from worker.process.switch_policy import LoadTarget, SwitchPolicy
from worker.process_device import row_name

log = structlog.get_logger(__name__)

FORWARD_SHARE_OF_GRACE = 0.5  # the share for the forward pass; the rest is for writing results and releasing slices
BUSY_POLL_INTERVALS = 2  # between two looks for other pipelines' work while the engine has some
JOIN_POLL_SECONDS = 0.1  # between checks whether the thread is loading a model


@dataclass(frozen=True, slots=True)
class ActivePipeline:
    """A pipeline on the device and the engine that runs it."""

    target: LoadTarget
    pipeline: Pipeline
    loaded: LoadedPipeline
    engine: Engine


class PipelineSwitcher:
    """Loads the first pipeline that has work, and later switches as the switch policy decides.

    A failed load is retried indefinitely, with backoff, and does not block the other pipelines. A dedicated thread
    calls `run_once` and does all the loading.
    """

    def __init__(self, context: WorkerContext, pipelines: Mapping[str, Pipeline], loader: PipelineLoader) -> None:
        self._context = context
        self._pipelines = pipelines
        self._loader = loader
        self._switch_policy = SwitchPolicy(list(pipelines), context.settings.switch_after_seconds)
        self._resolved_revisions: dict[str, str] = {}  # the revision that each catalogue entry last resolved to
        self._active: ActivePipeline | None = None
        self._engine_idle = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="switcher", daemon=True)

    def start(self) -> None:
        """Start the loading thread."""
        self._loader.start()
        self._thread.start()

    def stop(self) -> None:
        """Let the engine finish its micro-batch and load nothing more; returns at once, safe in a signal handler."""
        self._stopping.set()
        self._engine_idle.set()
        active = self._active
        if active is not None:
            active.engine.stop(self._context.settings.grace_seconds * FORWARD_SHARE_OF_GRACE)

    def join(self) -> None:
        """Wait until the engine has stopped and released its slices, but not for a load in progress."""
        while self._thread.is_alive() and not self._loader.is_loading:
            self._thread.join(JOIN_POLL_SECONDS)
        self._loader.stop()
        if self._active is not None:
            self._drain(self._active)

    def run_once(self, now: float) -> bool:
        """Load another pipeline if the policy asks for one; returns whether a load was tried. Raises Unreachable."""
        loaded_target = self._active.target if self._active else None
        claimable_targets = self._claimable_targets(now)
        is_busy = self._context.held_leases.may_hold_any()  # after the query: what was claimed before it is held now
        target = self._switch_policy.choose(loaded_target, claimable_targets, now, is_busy=is_busy)
        if target is None and loaded_target is None:
            target = self._next_due_target(now)
        if target is None or self._stopping.is_set():
            return False
        if (problem := self._loader.find_problem(target, self._pipelines[target.pipeline])) is not None:
            self._handle_load_failure(target, problem, 0.0)
            return True
        started = time.monotonic()
        self._deactivate(target)
        try:
            self._activate(target)
        except DatabaseRefused:
            raise
        except BatchmillError as error:
            self._handle_load_failure(target, error, time.monotonic() - started)
        else:
            log.info(
                "model.switched",
                previous_pipeline=loaded_target and loaded_target.pipeline,
                pipeline=target.pipeline,
                seconds=round(time.monotonic() - started, 2),
            )
        return True

    def _next_due_target(self, now: float) -> LoadTarget | None:
        """Return the target to load when no pipeline has work: the first one, or the one that has been due longest."""
        backoff = self._loader.backoff
        due = [target for target in map(LoadTarget, self._pipelines) if backoff.is_due(target, now)]
        return min(due, key=backoff.due_at, default=None)

    def _loop(self) -> None:
        try:
            self._loader.restore_backoff()
            while not self._stopping.is_set():
                if not self._try_run_once() and not self._stopping.is_set():
                    if self._can_never_switch:
                        return
                    self._engine_idle.wait(self._wait_seconds)
                self._engine_idle.clear()
        except Exception as error:
            if isinstance(error, DatabaseRefused) and self._context.on_refusal is not None:
                self._context.on_refusal(error)
            log.exception("switcher.crashed")
            self._context.on_fatal_error()

    @property
    def _wait_seconds(self) -> float:
        """How long to wait for the engine to be idle: it says so at each poll, and only a busy one is waited out."""
        seconds = self._context.settings.poll_interval_seconds
        return seconds if self._active is None else BUSY_POLL_INTERVALS * seconds

    def _try_run_once(self) -> bool:
        try:
            return self.run_once(time.monotonic())
        except Unreachable as error:
            log.warning("database.unreachable", operation="backlog", error=str(error))
            return False

    @property
    def _can_never_switch(self) -> bool:
        """Whether this process serves one pipeline only, whose files are folders and so have one revision."""
        if self._active is None or len(self._pipelines) > 1:
            return False
        pipeline = self._active.pipeline
        return pipeline.folder is not None and (pipeline.adapter is None or pipeline.adapter_folder is not None)

    def _claimable_targets(self, now: float) -> set[LoadTarget]:
        """Return the targets with claimable work, except those in backoff after a failed load."""
        if len(self._pipelines) == 1 and self._active is None:
            return set()  # no choice to make, and the database may be unreachable
        targets = set()
        for work in self._context.backlog.recent(self._context.settings.poll_interval_seconds / 2):
            pipeline = self._pipelines[work.pipeline]
            if work.task == pipeline.task and (target := self._target_for(pipeline, work.revision)):
                targets.add(target)
        return {target for target in targets if self._loader.backoff.is_due(target, now)}

    def _target_for(self, pipeline: Pipeline, revision: str | None) -> LoadTarget | None:
        """Return the target for a batch with this revision; None if a model folder has other content here."""
        active = self._active
        if active is not None and (active.pipeline.name, active.loaded.claimant.revision) == (pipeline.name, revision):
            return active.target
        loaded_revision = self._resolved_revisions.get(pipeline.name)
        if revision is None or loaded_revision is None or revision in (pipeline.pinned_revision, loaded_revision):
            return LoadTarget(pipeline.name)
        # The branch on the Hub has moved since the batch began, but its commit can still be fetched.
        return LoadTarget(pipeline.name, revision) if pipeline.has_revision(revision, loaded_revision) else None

    def _activate(self, target: LoadTarget) -> None:
        pipeline = self._pipelines[target.pipeline]
        if target.revision is not None:
            pipeline = pipeline.at_revision(target.revision)
        runtime = self._loader.load(target, pipeline)
        if self._stopping.is_set():
            return
        if target.revision is None:
            self._resolved_revisions[pipeline.name] = runtime.version.batch_revision
        loaded = self._loader.prepare(target, pipeline, runtime)
        version = runtime.version
        device = row_name(self._context.device, version.device)
        model = version.model if pipeline.folder is None else pipeline.folder.name  # no paths in labels
        self._context.metrics.record_load(pipeline.name, model, version.batch_revision, version.dtype, device)
        engine = Engine(self._context, loaded, self._engine_idle.set)
        self._active = ActivePipeline(target, pipeline, loaded, engine)
        engine.start()
        if self._stopping.is_set():  # `stop` may have come before there was an engine
            engine.stop()

    def _deactivate(self, next_target: LoadTarget) -> None:
        active = self._active
        if active is None:
            return
        active.engine.stop()
        self._drain(active)
        self._active = None
        self._context.metrics.record_unload()
        keeps_shared = active.pipeline.has_same_base(self._pipelines[next_target.pipeline])
        self._loader.unload(active.target, active.loaded, keeps_shared=keeps_shared)
        del active
        model_cache.release_memory()

    def _drain(self, active: ActivePipeline) -> None:
        released_count = len(active.engine.join())
        self._loader.save_token_budget(active.loaded)
        try:
            wakeups.send_wakeups(self._context.settings, active.pipeline.name, released_count)
        except Unreachable as error:
            log.warning(
                "wakeups.send_failed",
                pipeline=active.pipeline.name,
                error=str(error),
                reason="workers find released slices by polling SQL",
            )

    def _handle_load_failure(self, target: LoadTarget, error: BatchmillError, load_seconds: float) -> None:
        self._switch_policy.move_to_back(target)
        is_other_loaded = self._active is not None
        pipeline = self._pipelines[target.pipeline]
        self._loader.handle_failure(target, pipeline, error, load_seconds, is_other_loaded=is_other_loaded)
        if is_device_lost(error):  # only a new process can use the device again
            self._context.on_fatal_error()
