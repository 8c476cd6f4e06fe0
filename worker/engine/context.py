"""The context of an engine: what all engines of a process share, and the pipeline that one of them runs."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.db import Database
from models.settings import Settings
from worker.engine.claim_size import ClaimSizer
from worker.engine.wakeup import WakeupSignal
from worker.leasing.backlog import Backlog
from worker.leasing.database_refusal import OnRefusal
from worker.leasing.leases import Claimant, HeldLeases
from worker.leasing.load_problems.load_failures import LoadLocation
from worker.metrics.recorder import NO_METRICS, MetricsRecorder
from worker.passes.token_budget import TokenBudgetTuner
from worker.passes.watchdog import OnHang

if TYPE_CHECKING:  # the engine itself runs without torch
    from worker.loading.runtime import Runtime


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The settings, connections and callbacks that all pipelines of one process share.

    device: the name of the device among the processes of this machine, such as cuda:0#2; a pipeline may name another.
    claim_database: a second connection, so that claims and writes don't wait for each other.
    on_fatal_error: called when a thread crashed.
    on_hang: called with the pipeline and its role when a call to its model or files takes too long.
    on_refusal: called when the database refuses a statement; None = `on_fatal_error`.
    metrics: takes what the engine measures.
    """

    worker_id: str
    device: str
    settings: Settings
    database: Database
    claim_database: Database
    backlog: Backlog
    wakeup_signal: WakeupSignal
    held_leases: HeldLeases
    on_fatal_error: Callable[[], None]
    on_hang: OnHang
    on_refusal: OnRefusal | None = None
    metrics: MetricsRecorder = NO_METRICS

    @property
    def location(self) -> LoadLocation:
        """The host and device on which this process loads models."""
        return LoadLocation(self.worker_id, socket.gethostname(), self.device)


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """A pipeline on the device.

    version_id: the `model_versions` row that results name.
    forward_timeout_seconds: how long one forward pass may take until it counts as hung.
    guard_timeout_seconds: as `forward_timeout_seconds`, by guard pipeline; where one is missing, the pipeline's counts.
    guard_definitions: hash of each guard's definition, by its name.
    """

    runtime: "Runtime"
    claimant: Claimant
    version_id: int
    claim_sizer: ClaimSizer
    token_budget: TokenBudgetTuner
    forward_timeout_seconds: float
    guard_timeout_seconds: Mapping[str, float] = field(default_factory=dict)
    guard_definitions: Mapping[str, str] = field(default_factory=dict)
