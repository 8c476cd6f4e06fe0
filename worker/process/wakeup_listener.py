"""The wakeup listener receives wakeups through Celery and passes them on to the engine."""

import os
import time
from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.worker import WorkController, state
from kombu import Queue

from models.lifecycle import wakeups
from models.settings import Settings
from worker.engine.wakeup import WakeupSignal
from worker.metrics.recorder import NO_METRICS, MetricsRecorder
from worker.process.redis_transport import WakeupAMQP


def celery_consumer(
    settings: Settings,
    pipeline_names: Sequence[str],
    wakeup_signal: WakeupSignal,
    metrics: MetricsRecorder = NO_METRICS,
) -> Celery:
    """Return a Celery application whose only task notifies the engine; a forged wakeup causes only a query."""
    app = wakeups.celery_app(settings, WakeupAMQP)
    queues = [wakeups.queue_name(pipeline) for pipeline in pipeline_names]
    app.conf.update(
        task_queues=[Queue(queue, routing_key=queue) for queue in queues],
        task_default_queue=queues[0],
        task_create_missing_queues=False,
        task_acks_late=False,
        # With "solo", the consumer loop itself waits for the engine's acknowledgement and then receives the next wakeup
        # at once. With a thread pool, the loop would notice the free thread up to 1 s later.
        worker_pool="solo",
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # a wakeup prefetched by a busy process can't reach an idle one
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
    )

    @app.task(name=wakeups.WAKEUP_TASK)
    def wakeup(pipeline: str) -> None:
        if pipeline in pipeline_names:
            received_at = time.monotonic()
            wakeup_signal.notify_and_wait()
            metrics.record_wakeup(time.monotonic() - received_at)

    return app


def consume(app: Celery, hostname: str) -> None:
    """Receive wakeups until `stop_consuming` is called, or until Celery gives up, for example because Redis is full.

    This uses the bare controller, because Celery's command-line worker would take over signals and logging.
    """
    worker: Any = WorkController(
        app=app, hostname=hostname, loglevel="WARNING", without_mingle=True, without_gossip=True, without_heartbeat=True
    )
    worker.start()


def stop_consuming() -> None:
    """Make `consume` return; safe in a signal handler."""
    state.should_stop = os.EX_OK
