"""The Celery side of a worker process: hears its pipelines' bells and passes them on to the doorbell."""

import os
from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.worker import WorkController, state
from kombu import Queue

from models.lifecycle import wakeups
from models.settings import Settings
from worker.engine.wakeup import WakeupSignal
from worker.process.redis_transport import WakeupAMQP


def celery_consumer(settings: Settings, pipeline_names: Sequence[str], wakeup_signal: WakeupSignal) -> Celery:
    """A Celery application whose one task rings the doorbell. A forged or late bell can only cause a look at SQL."""
    app = wakeups.celery_app(settings, WakeupAMQP)
    queues = [wakeups.queue_name(pipeline) for pipeline in pipeline_names]
    app.conf.update(
        task_queues=[Queue(queue, routing_key=queue) for queue in queues],
        task_default_queue=queues[0],
        task_create_missing_queues=False,
        task_acks_late=False,
        # The loop that hears bells waits with the bell in its hand, and hears the next one the moment it is answered. A
        # thread of a pool would free it unnoticed, until the loop looks again by itself, which takes up to a second.
        worker_pool="solo",
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # a bell in a busy process' hands is one that an idle process can't hear
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
    )

    @app.task(name=wakeups.WAKEUP_TASK)
    def wakeup(pipeline: str, _slice_id: int) -> None:
        if pipeline in pipeline_names:
            wakeup_signal.notify_and_wait()

    return app


def consume(app: Celery, hostname: str) -> None:
    """Hear bells until `end` is called, or until something that Celery can't get over, such as a full Redis.

    The bare controller rather than Celery's command-line worker, so that signals and the log are ours alone.
    """
    worker: Any = WorkController(
        app=app, hostname=hostname, loglevel="WARNING", without_mingle=True, without_gossip=True, without_heartbeat=True
    )
    worker.start()


def stop_consuming() -> None:
    """Have `listen` return; fit for a signal handler."""
    state.should_stop = os.EX_OK
