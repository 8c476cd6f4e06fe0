"""A worker process runs one pipeline at a time on one device."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import NoReturn

import structlog

from models import log, operator_code, schema
from models.errors import BatchmillError
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.privacy import tracebacks
from models.processes import background, failpoints
from models.processes.background import PeriodicThread
from models.settings import Settings
from worker.engine.context import WorkerContext
from worker.engine.wakeup import WakeupSignal
from worker.exit_status import DEVICE_HUNG, FORCED_SHUTDOWN, INTERNAL_ERROR, exit_status_for
from worker.leasing import database_refusal
from worker.leasing.backlog import Backlog
from worker.leasing.leases import HeldLeases
from worker.loading import runtime, weights
from worker.loading.large_models import offload_folder
from worker.loading.runtime import Runtime
from worker.maintenance import tasks
from worker.maintenance.loop import MaintenanceLoop
from worker.metrics import listener
from worker.process import load_checks, wakeup_listener
from worker.process.heartbeat import Heartbeat
from worker.process.pipeline_loader import PipelineLoader
from worker.process.pipeline_switcher import PipelineSwitcher
from worker.process_device import ProcessDevice

logger = structlog.get_logger(__name__)

# A process has two connections. The first writes results and, between writes, serves maintenance and the loading of
# pipelines. The second serves claims, the pipeline switcher's look at the backlog, and the heartbeat: these are short,
# so leases are renewed in time however long a write takes. A claim or a maintenance task may meet a locked row; the
# timeout frees its connection.
LOCK_TIMEOUT_SECONDS = 0.5

LISTENER_RESTART_SECONDS = 5.0  # pause after Celery's consumer has stopped


def main(pipeline_names: Sequence[str], device: str, threads: int | None, worker_id: str) -> int:
    """Serve pipelines until SIGTERM, or until the supervisor is gone; returns the exit status.

    pipeline_names: names from the catalogue.
    device: a torch device or `auto`, or a share of one in the form of `ProcessDevice`.
    threads: threads for torch on a CPU, None = torch's default.
    worker_id: the holder of the leases; the supervisor requeues them at once if this process crashes.
    """
    signal.signal(signal.SIGTERM, _exit_before_start)
    background.exit_with_parent()
    operator_code.keep_versions()
    settings = Settings.load()
    own_device = ProcessDevice.parse(device)
    torch_name = _resolve_device(own_device.torch_name)
    own_device = own_device.with_device(torch_name)
    log.configure(settings, pid=os.getpid(), device=own_device.label)
    failpoints.arm()
    metrics = listener.listen(settings)
    catalogue = Catalogue.load(settings)
    pipelines = {name: catalogue[name] for name in pipeline_names}
    guards = {name: tuple(pipeline.guards) for name, pipeline in pipelines.items()}
    database, heartbeat_database = (schema.open_database(settings, max_connections=1) for _ in range(2))
    held_leases = HeldLeases()
    on_refusal = partial(database_refusal.end_process, database, held_leases)
    claim_database = heartbeat_database.with_lock_timeout(LOCK_TIMEOUT_SECONDS)
    context = WorkerContext(
        worker_id=worker_id,
        device=own_device.label,
        settings=settings,
        database=database,
        claim_database=claim_database,
        backlog=Backlog(claim_database, guards),
        wakeup_signal=WakeupSignal(),
        held_leases=held_leases,
        on_fatal_error=_on_fatal_error,
        on_hang=_on_hang,
        on_refusal=on_refusal,
        metrics=metrics,
    )
    heartbeat = Heartbeat(
        heartbeat_database,
        held_leases,
        {name: pipeline.settings_hash for name, pipeline in pipelines.items()},
        lease_seconds=settings.lease_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        guards=guards,
        on_refusal=on_refusal,
    )
    load = _make_loader(settings, own_device, torch_name, threads)
    check = partial(load_checks.find_problem, process_device=own_device)
    maintenance_database = database.with_lock_timeout(LOCK_TIMEOUT_SECONDS)
    maintenance = MaintenanceLoop(
        maintenance_database,
        tasks.default_tasks(maintenance_database, settings, metrics),
        worker_id,
        reclaim_grace_seconds=settings.heartbeat_seconds,
        on_schema_mismatch=on_refusal,
    )
    switcher = PipelineSwitcher(context, pipelines, PipelineLoader(context, heartbeat, load, check))
    _serve(context, list(pipelines), switcher, (heartbeat, maintenance))
    heartbeat.close()
    logger.info("worker.stopped")
    return os.EX_OK


def run_process() -> NoReturn:
    """Run `main` with the arguments of the command line, and exit with its status."""
    tracebacks.install_excepthooks()
    pipelines_argument, device_name, thread_count, worker_id = sys.argv[1:5]
    try:
        _exit_now(main(pipelines_argument.split(","), device_name, int(thread_count) or None, worker_id))
    except BatchmillError as error:
        logger.error("worker.start_failed", error_code=error.code, error=str(error))
        _exit_now(exit_status_for(error))


def _resolve_device(requested: str) -> str:
    """Return the name of the device; as requested, if it can't be used here, which each load then reports."""
    try:
        return str(weights.resolve_device(requested))
    except Exception:  # torch raises its own errors for unknown names and broken drivers, and nothing is logged yet
        return requested


def _make_loader(
    settings: Settings, own_device: ProcessDevice, torch_name: str, threads: int | None
) -> Callable[[Pipeline], Runtime]:
    """Return the function that loads a pipeline onto this process's device."""
    offload_parent = settings.home_path / offload_folder.FOLDER_NAME
    offload_folder.remove_abandoned(offload_parent)  # of processes that were killed

    def load(pipeline: Pipeline) -> Runtime:
        return runtime.load(
            pipeline.model_copy(update={"device": own_device.torch_name_for(pipeline.device)}),
            torch_name,
            threads=threads,
            micro_batch_tokens=settings.micro_batch_tokens,
            processes=own_device.processes,
            offload_parent=offload_parent,
        )

    return load


def _serve(
    context: WorkerContext,
    pipeline_names: Sequence[str],
    switcher: PipelineSwitcher,
    periodic_threads: Sequence[PeriodicThread],
) -> None:
    """Run all threads until SIGTERM; the periodic threads stop last, because a draining engine needs its leases."""
    stopping = _install_signal_handlers(context, switcher)
    for thread in periodic_threads:
        thread.start()
    switcher.start()
    # Created once: Celery keeps a task name for the first application that registers it.
    consumer = wakeup_listener.celery_consumer(context.settings, pipeline_names, context.wakeup_signal, context.metrics)
    while not stopping.is_set():
        wakeup_listener.consume(consumer, context.worker_id)
        # The engine polls SQL, so it keeps working while Redis is unreachable.
        if not stopping.wait(LISTENER_RESTART_SECONDS):
            logger.warning(
                "redis.consumer_stopped",
                retry_seconds=LISTENER_RESTART_SECONDS,
                poll_interval_seconds=context.settings.poll_interval_seconds,
                reason="no wakeups can be received: the worker polls SQL",
            )
    switcher.join()
    for thread in reversed(periodic_threads):
        thread.stop()
    context.database.close()


def _install_signal_handlers(context: WorkerContext, switcher: PipelineSwitcher) -> threading.Event:
    """Return an event that SIGTERM or SIGINT sets, after asking the engine to stop."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():  # second signal: unwritten work is requeued
            os._exit(FORCED_SHUTDOWN)
        stopping.set()
        switcher.stop()
        context.wakeup_signal.close()
        wakeup_listener.stop_consuming()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopping


def _exit_before_start(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM while there is nothing to stop yet."""
    sys.exit(os.EX_OK)


def _on_fatal_error() -> None:
    # A clean shutdown is impossible without all engine threads; the leases expire by themselves.
    _exit_now(INTERNAL_ERROR)


def _on_hang(pipeline: str, role: str) -> None:
    reason = "a call took longer than its limit: this process ends, and its work is requeued"
    logger.error("device.hung", pipeline=pipeline, role=role, reason=reason)
    _exit_now(DEVICE_HUNG)


def _exit_now(status: int) -> NoReturn:
    """Exit without teardown, because shutting down an interpreter with torch takes seconds."""
    offload_folder.release_all()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
