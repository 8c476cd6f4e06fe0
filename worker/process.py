"""One worker process: one device, one pinned pipeline, one engine. It does not outlive its supervisor."""

import os
import signal
import socket
import sys
import threading
import uuid
from types import FrameType
from typing import NoReturn

import structlog

from models import broker, log, schema
from models.catalogue import Catalogue, Pipeline
from models.db import Database
from models.errors import BatchmillError, ModelError, Unreachable
from models.settings import Settings
from worker import app, casualties, parent, runtime, store
from worker.claims import Claimant, Lease
from worker.doorbell import Doorbell
from worker.engine import Engine
from worker.heartbeat import Heartbeat
from worker.holdings import Holdings
from worker.pace import Pace
from worker.runtime import Runtime

logger = structlog.get_logger(__name__)

DEFECT = 70  # EX_SOFTWARE
DEAF_SECONDS = 5.0  # between two tries to listen, after one that Celery gave up


def main(pipeline_name: str, device: str, threads: int | None) -> int:
    """Serve a pipeline until SIGTERM, or until the supervisor is gone; returns the exit status."""
    signal.signal(signal.SIGTERM, _end)
    parent.end_with_it()
    settings = Settings.load()
    log.configure(settings, pipeline=pipeline_name, pid=os.getpid())
    pipeline = Catalogue.load(settings)[pipeline_name]
    database = schema.opened(settings)
    try:
        loaded = runtime.load(pipeline, device, threads=threads, tokens_per_batch=settings.tokens_per_batch)
    except ModelError as error:
        casualties.fail_waiting(database, pipeline, error, settings.lease_seconds)
        raise
    return _serve(settings, pipeline, database, loaded)


def _serve(settings: Settings, pipeline: Pipeline, database: Database, loaded: Runtime) -> int:
    claimant = Claimant(
        worker_id=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
        pipeline=pipeline.name, task=pipeline.task, model=loaded.version.model, revision=loaded.version.revision,
        lease_seconds=settings.lease_seconds,
    )  # fmt: skip
    doorbell, holdings = Doorbell(), Holdings()
    engine = Engine(
        database, loaded, claimant, doorbell, holdings, Pace(settings.window_seconds, settings.window_jobs),
        version_id=store.register(database, loaded.version), slice_jobs=settings.slice_jobs,
        idle_seconds=settings.duty_seconds, on_defect=_defect,
    )  # fmt: skip
    heartbeat = Heartbeat(
        database, claimant, holdings, loaded.version.device,
        beat_seconds=settings.heartbeat_seconds, duty_seconds=settings.duty_seconds,
        max_attempts=settings.max_attempts,
    )  # fmt: skip
    stopping = _told_to_stop(engine)
    heartbeat.start()
    engine.start()
    app.survive_redis_outages()
    while not stopping.is_set():
        app.listen(app.listener(settings, pipeline.name, doorbell), claimant.worker_id)
        # The engine looks at SQL by itself, so it never has to stop for Redis' sake.
        if not stopping.wait(DEAF_SECONDS):
            logger.warning("bells can't be heard; looking at SQL without them", seconds=settings.duty_seconds)
    released = engine.join()
    heartbeat.stop()
    _pass_on(settings, pipeline.name, released)
    database.close()
    logger.info("worker ended")
    return os.EX_OK


def _told_to_stop(engine: Engine) -> threading.Event:
    """An event that is set, with the engine stopping already, by SIGTERM or SIGINT."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()
        engine.stop()
        app.end()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopping


def _pass_on(settings: Settings, pipeline: str, released: list[Lease]) -> None:
    if released:
        try:
            broker.ring(settings, pipeline, [lease.slice_id for lease in released])
        except Unreachable as error:
            logger.warning("could not ring for what was given back; others will find it in SQL", error=str(error))


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM before there is an engine to stop, such as while the model loads."""
    sys.exit(0)


def _defect() -> None:
    # Leases run out by themselves; a clean end can't be promised when a thread of the engine is gone.
    _leave(DEFECT)


def _leave(status: int) -> NoReturn:
    """End now: taking an interpreter full of torch apart takes seconds in which a successor could work."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    name, device_name, thread_count = sys.argv[1:4]
    try:
        _leave(main(name, device_name, int(thread_count) or None))
    except BatchmillError as error:
        logger.error("worker can't run", code=error.code, error=str(error))
        _leave(error.exit_code)
