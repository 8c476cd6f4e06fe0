"""Wakeups are Celery messages on Redis that tell workers to look for work in SQL.

Each pipeline has one queue. A message carries only the pipeline's name, no state.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from models.errors import Unreachable
from models.privacy import urls
from models.settings import Settings

WAKEUP_TASK = "batchmill.wakeup"
QUEUE_PREFIX = "batchmill."
MAX_WAKEUPS = 1_000  # sent at once: a woken worker claims slice after slice, so one for each process would be enough


def queue_name(pipeline: str) -> str:
    """The name of the queue for a pipeline's wakeups."""
    return QUEUE_PREFIX + pipeline


def pipeline_for_queue(queue: str) -> str:
    """The name of the pipeline that a queue belongs to."""
    return queue.removeprefix(QUEUE_PREFIX)


def celery_app(settings: Settings, amqp: type[AMQP] | None = None) -> Celery:
    """Build a Celery application that sends and accepts only JSON and stores no results.

    amqp: the class that builds queues and messages, None = Celery's own

    Raises Unreachable if the embedded Valkey's socket may belong to another user.
    """
    if settings.redis_url is None and (reason := settings.untrusted_socket_reason):
        raise Unreachable(f"the embedded Valkey is not called: {reason}")
    app = Celery("batchmill", broker=settings.broker_url, amqp=amqp, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            # A lost wakeup is harmless because workers also poll SQL, so none is kept for redelivery.
            "ack_emulation": False,
            "socket_connect_timeout": settings.redis_timeout_seconds,
            "socket_timeout": settings.redis_timeout_seconds,
            "socket_keepalive": True,
        },
    )
    return app


def send_wakeups(settings: Settings, pipeline: str, count: int) -> None:
    """Send one wakeup per claimable slice, at most MAX_WAKEUPS, within `redis_timeout_seconds` in total.

    count: the number of claimable slices

    Raises Unreachable when Redis does not accept them in time; workers then find the work by polling SQL.
    """
    if count == 0:
        return
    deadline = time.monotonic() + settings.redis_timeout_seconds
    app = celery_app(settings)
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=settings.redis_timeout_seconds)
            producer = app.amqp.Producer(connection, auto_declare=False)
            for _ in range(min(count, MAX_WAKEUPS)):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"sending wakeups took longer than {settings.redis_timeout_seconds} s")
                app.send_task(WAKEUP_TASK, args=[pipeline], **_delivery_options(pipeline, producer))
    except Exception as error:  # the caller has committed: the command must not look failed
        raise _unreachable_error(settings, error, "does not accept wakeups") from error
    finally:
        app.close()


def queue_depths(settings: Settings, pipelines: Sequence[str]) -> dict[str, int]:
    """The number of wakeups that wait on Redis, by pipeline; raises Unreachable."""
    with _redis_client(settings) as client:
        return {pipeline: client.llen(queue_name(pipeline)) for pipeline in pipelines}


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The server's own report of its kind, version and memory.

    kind: `Redis` or `Valkey`
    version: the server's version
    eviction_policy: its `maxmemory-policy`
    used_memory_bytes: memory in use
    max_memory_bytes: memory limit, 0 = none
    """

    kind: str
    version: str
    eviction_policy: str
    used_memory_bytes: int
    max_memory_bytes: int


def server_info(settings: Settings) -> ServerInfo:
    """Fetch the server's information, within `redis_timeout_seconds`; raises Unreachable."""
    with _redis_client(settings) as client:
        info = client.info()
    valkey = "valkey_version" in info
    return ServerInfo(
        kind="Valkey" if valkey else "Redis",
        version=str(info["valkey_version" if valkey else "redis_version"]),
        eviction_policy=info["maxmemory_policy"],
        used_memory_bytes=info["used_memory"],
        max_memory_bytes=info["maxmemory"],
    )


@contextmanager
def _redis_client(settings: Settings) -> Iterator[Any]:
    """Open a Redis client; raises Unreachable, also for errors inside the block."""
    app = celery_app(settings)
    try:
        with app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=settings.redis_timeout_seconds)
            yield connection.default_channel.client
    except Exception as error:  # an invalid reply counts as unreachable too
        raise _unreachable_error(settings, error, "does not answer") from error
    finally:
        app.close()


def _unreachable_error(settings: Settings, error: Exception, problem: str) -> Unreachable:
    known = isinstance(error, RedisError | KombuError | OSError)
    reason = (known and str(error).rstrip(".")) or type(error).__name__
    return Unreachable(f"Redis at {urls.redact_url(settings.broker_url)} {problem}: {reason}")


def _delivery_options(pipeline: str, producer: Any) -> dict[str, Any]:
    return {
        "queue": queue_name(pipeline),
        "producer": producer,
        "retry": False,
        "ignore_result": True,
        "declare": (),  # a queue on Redis is just a list: no bindings to declare
    }
