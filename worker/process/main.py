"""One worker process: one device, one pipeline pinned at a time. It does not outlive its supervisor."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from types import FrameType
from typing import NoReturn

import structlog

from models import background, failpoints, log, schema
from models.errors import BatchmillError
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.privacy import tracebacks
from models.settings import Settings
from worker.engine.wakeup import Doorbell
from worker.exit_status import AT_ONCE, DEFECT, HUNG, status_of
from worker.leasing import database_refusal
from worker.leasing.leases import Holdings
from worker.loading import runtime
from worker.loading.runtime import Runtime
from worker.maintenance import tasks
from worker.maintenance.loop import Duties
from worker.process import wakeup_listener
from worker.process.heartbeat import Heartbeat
from worker.process.pipeline_switcher import Pinning, Process

logger = structlog.get_logger(__name__)

# A process has two connections. One is for what it computed, and between two writes for its duties and its pinning. The
# other is for claims and the heartbeat. A claim is short, so a lease is renewed in time, however long a write goes on;
# but it may meet a row that others keep locked, and a duty may as well. Neither keeps its connection for that.
LOCK_SECONDS = 0.5

DEAF_SECONDS = 5.0  # between two tries to listen, after one that Celery gave up


def main(names: Sequence[str], device: str, threads: int | None, worker_id: str) -> int:
    """Serve pipelines until SIGTERM, or until the supervisor is gone; returns the exit status.

    The supervisor knows `worker_id`: should this process die, it gives back at once what was leased under that name.
    """
    signal.signal(signal.SIGTERM, _end)
    background.end_with_it()
    settings = Settings.load()
    log.configure(settings, pid=os.getpid(), device=device)
    failpoints.arm()
    catalogue = Catalogue.load(settings)
    pipelines = {name: catalogue[name] for name in names}
    database, beating = (schema.opened(settings, connections=1) for _ in range(2))
    holdings = Holdings()
    on_refusal = partial(database_refusal.end_process, database, holdings)
    process = Process(
        worker_id=worker_id, settings=settings, database=database, doorbell=Doorbell(), holdings=holdings,
        on_defect=_defect, on_hang=_hung, on_refusal=on_refusal, device=device,
        claiming=beating.impatient(LOCK_SECONDS),
        heartbeat=Heartbeat(
            beating, holdings, names, lease_seconds=settings.lease_seconds, beat_seconds=settings.heartbeat_seconds,
            on_refusal=on_refusal,
        ),
    )  # fmt: skip

    def load(pipeline: Pipeline) -> Runtime:
        return runtime.load(pipeline, device, threads=threads, tokens_per_batch=settings.tokens_per_batch)

    hasty = database.impatient(LOCK_SECONDS)
    chores = Duties(
        hasty, tasks.standard(hasty, settings), worker_id, patience_seconds=settings.heartbeat_seconds,
        on_outdated=on_refusal,
    )  # fmt: skip
    return _serve(process, names, Pinning(process, pipelines, load), chores)


def _serve(process: Process, names: Sequence[str], pinning: Pinning, chores: Duties) -> int:
    settings = process.settings
    stopping = _told_to_stop(process, pinning)
    process.heartbeat.start()
    chores.start()
    pinning.start()
    listener = wakeup_listener.listener(
        settings, names, process.doorbell
    )  # one: Celery keeps a name for whoever had it first
    while not stopping.is_set():
        wakeup_listener.listen(listener, process.worker_id)
        # The engine looks at SQL by itself, so it never has to stop for Redis' sake.
        if not stopping.wait(DEAF_SECONDS):
            logger.warning("bells can't be heard; looking at SQL without them", seconds=settings.duty_seconds)
    pinning.join()
    chores.stop()
    process.heartbeat.stop()
    process.database.close()
    process.heartbeat.close()
    logger.info("worker ended")
    return os.EX_OK


def _told_to_stop(process: Process, pinning: Pinning) -> threading.Event:
    """An event that is set, with the engine stopping already, by SIGTERM or SIGINT."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():  # told twice: whatever is not written is somebody else's now
            os._exit(AT_ONCE)
        stopping.set()
        pinning.stop()
        process.doorbell.close()
        wakeup_listener.end()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopping


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM before there is anything to stop."""
    sys.exit(os.EX_OK)


def _defect() -> None:
    # Leases run out by themselves; a clean end can't be promised when a thread of the engine is gone.
    _leave(DEFECT)


def _hung() -> None:
    logger.error("the device did not come back in time; this process ends, and its work is given back")
    _leave(HUNG)


def _leave(status: int) -> NoReturn:
    """End now: taking an interpreter full of torch apart takes seconds in which a successor could work."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    tracebacks.print_uncaught()
    given, device_name, thread_count, name = sys.argv[1:5]
    try:
        _leave(main(given.split(","), device_name, int(thread_count) or None, name))
    except BatchmillError as error:
        logger.error("worker can't run", code=error.code, error=str(error))
        _leave(status_of(error))
