"""Pinning: one pipeline at a time is loaded in this process, and an engine works through its backlog."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import structlog

from models import broker
from models.db import Database
from models.errors import ModelError, Unreachable
from models.pipeline import Pipeline
from models.settings import Settings
from worker import cache, casualties, claims, retry, store
from worker.budget import Budget
from worker.cache import RuntimeCache
from worker.claims import Claimant
from worker.doorbell import Doorbell
from worker.engine import Engine
from worker.heartbeat import Heartbeat
from worker.holdings import Holdings
from worker.pace import Pace
from worker.patience import patiently
from worker.refusal import OnRefusal
from worker.rotation import Rotation
from worker.watchdog import Watchdog

if TYPE_CHECKING:
    from worker.runtime import Runtime

log = structlog.get_logger(__name__)

PATIENCE = 0.5  # the share of the grace in which a pass may be finished; what is left is for writing and giving back
BROKEN_SECONDS = 30.0  # before a pipeline that could not be loaded is tried again
GIGABYTE = 1e9

Load = Callable[[Pipeline], "Runtime"]


def _backoff(settings: Settings) -> Callable[[int], float]:
    rng = Random()  # noqa: S311 - jitter keeps no secret
    return lambda tries: retry.backoff(tries, settings.retry_seconds, settings.longest_retry_seconds, rng)


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


@dataclass(frozen=True, slots=True)
class Pinned:
    """A pipeline on the device and the engine that runs it."""

    pipeline: Pipeline
    runtime: "Runtime"
    engine: Engine
    budget: Budget
    known: int | None  # the budget that was remembered


class Pinning:
    """Pins the first pipeline, and from then on whichever the rotation names. With one pipeline it never changes."""

    def __init__(self, process: Process, pipelines: Mapping[str, Pipeline], load: Load) -> None:
        settings = process.settings
        self._process = process
        self._pipelines = pipelines
        self._load = load
        self._rotation = Rotation(list(pipelines), settings.max_wait_seconds)
        self._cache = RuntimeCache(settings.cache_gb * GIGABYTE)
        self._paces = {name: Pace(settings.window_seconds, settings.window_jobs) for name in pipelines}
        self._revisions: dict[str, str] = {}  # of what was loaded last
        self._broken_until: dict[str, float] = {}
        self._pinned: Pinned | None = None
        self._begun = False
        self._idle = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pinning")

    @property
    def begun(self) -> bool:
        """Whether there was ever an engine to stop."""
        return self._begun

    def start(self) -> None:
        """Pin a pipeline that has work, else the first that can be loaded; raises the last ModelError when none can."""
        waiting = self._waiting(time.monotonic())
        order = sorted(self._pipelines, key=lambda name: name not in waiting)
        for name in order:
            try:
                self._pin(name)
                break
            except ModelError as error:
                self._give_up(name, error)
                if name == order[-1]:
                    raise
        self._thread.start()

    def stop(self) -> None:
        """Have the engine finish its micro-batch, and pin nothing more; returns at once, fit for a signal handler."""
        self._stopping.set()
        self._idle.set()
        pinned = self._pinned
        if pinned is not None:
            pinned.engine.stop(self._process.settings.grace_seconds * PATIENCE)

    def join(self) -> None:
        """Wait for the end of the engine, having given back what it held."""
        if self._thread.is_alive():
            self._thread.join()
        if self._pinned is not None:
            self._finish(self._pinned)

    def run_once(self, now: float) -> None:
        """Change to another pipeline if it is time; raises Unreachable when that can't be found out."""
        pinned = self._pinned.pipeline.name if self._pinned else None
        busy = bool(self._process.holdings.leases())
        name = self._rotation.next(pinned, self._waiting(now), now, busy=busy)
        if name is None or self._stopping.is_set():
            return
        started = time.monotonic()
        self._unpin()
        try:
            self._pin(name)
        except ModelError as error:
            self._give_up(name, error)
        else:
            log.info("pipeline changed", before=pinned, pipeline=name, seconds=round(time.monotonic() - started, 2))

    def _loop(self) -> None:
        while len(self._pipelines) > 1 and not self._stopping.is_set():
            self._idle.wait(self._process.settings.duty_seconds)
            self._idle.clear()
            try:
                self.run_once(time.monotonic())
            except Unreachable as error:
                log.warning("can't see what waits, will look again", error=str(error))
                self._stopping.wait(self._process.settings.duty_seconds)
            except Exception:
                log.exception("a defect in pinning")
                self._process.on_defect()

    def _waiting(self, now: float) -> set[str]:
        if len(self._pipelines) == 1:
            return set(self._pipelines)
        ready = [name for name in self._pipelines if self._broken_until.get(name, now) <= now]
        return {
            row.pipeline
            for row in claims.waiting(self._process.database, ready)
            if row.task == self._pipelines[row.pipeline].task
            and row.revision in (None, self._revisions.get(row.pipeline, row.revision))
        }

    def _pin(self, name: str) -> None:
        pipeline, process = self._pipelines[name], self._process
        runtime = self._cache.take(name) or self._load(pipeline)
        version = runtime.version
        self._revisions[name] = version.revision
        cache.settle()
        claimant = Claimant(
            process.worker_id, name, pipeline.task, version.model, version.revision, process.settings.lease_seconds
        )
        version_id = patiently(lambda _again: store.register(process.database, version))
        known = patiently(lambda _again: store.remembered_budget(process.database, name, version))
        budget = Budget(known if known and runtime.tunes else runtime.tokens_per_batch, tunes=runtime.tunes)
        patiently(lambda _again: process.heartbeat.pinned(claimant, version.device))
        engine = Engine(
            process.database, runtime, claimant, process.doorbell, process.holdings, self._paces[name],
            version_id=version_id, slice_jobs=process.settings.slice_jobs, idle_seconds=process.settings.duty_seconds,
            linger_seconds=process.settings.linger_ms / 1000, budget=budget,
            max_attempts=process.settings.max_attempts, backoff=_backoff(process.settings),
            watchdog=Watchdog(pipeline.pass_seconds or process.settings.pass_seconds, process.on_hang),
            on_defect=process.on_defect, on_idle=self._idle.set, on_refusal=process.on_refusal,
        )  # fmt: skip
        self._pinned, self._begun = Pinned(pipeline, runtime, engine, budget, known), True
        engine.start()
        if self._stopping.is_set():  # told so while the model was loaded
            engine.stop()

    def _unpin(self) -> None:
        pinned = self._pinned
        if pinned is None:
            return
        pinned.engine.stop()
        self._finish(pinned)
        self._pinned = None
        self._cache.put(pinned.pipeline.name, pinned.runtime)
        del pinned
        cache.free()

    def _finish(self, pinned: Pinned) -> None:
        released = [lease.slice_id for lease in pinned.engine.join()]
        self._remember(pinned)
        try:
            if released:
                broker.ring(self._process.settings, pinned.pipeline.name, released)
        except Unreachable as error:
            log.warning("could not ring for what was given back; others will find it in SQL", error=str(error))

    def _remember(self, pinned: Pinned) -> None:
        name, tokens = pinned.pipeline.name, pinned.budget.tokens
        if pinned.runtime.tunes and tokens != pinned.known:
            try:
                store.remember_budget(self._process.database, name, pinned.runtime.version, tokens)
            except Unreachable as error:
                log.warning("could not remember the budget", pipeline=name, tokens=tokens, error=str(error))

    def _give_up(self, name: str, error: ModelError) -> None:
        log.error("pipeline can't be loaded", failed=name, code=error.code, error=str(error), seconds=BROKEN_SECONDS)
        process = self._process
        casualties.fail_waiting(process.database, self._pipelines[name], error, process.settings.lease_seconds)
        self._broken_until[name] = time.monotonic() + BROKEN_SECONDS
