"""The bell: Celery on Redis, one queue per pipeline, names and ids only. SQL decides what runs."""

import time
from collections.abc import Iterable, Iterator, Sequence
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

WAKEUP_TASK = "batchmill.bell"
QUEUE_PREFIX = "batchmill."


def queue_name(pipeline: str) -> str:
    """The queue on which a pipeline's bells ring."""
    return QUEUE_PREFIX + pipeline


def pipeline_for_queue(queue: str) -> str:
    """The pipeline whose bells ring on a queue."""
    return queue.removeprefix(QUEUE_PREFIX)


def celery_app(settings: Settings, amqp: type[AMQP] | None = None) -> Celery:
    """A Celery application that takes and sends nothing but JSON and keeps no results.

    amqp: what connects it to Redis; None is Celery's own. Raises Unreachable where the embedded Valkey's socket may be
    somebody else's.
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
            # A bell lost with its worker costs nothing, so nothing is kept to redeliver it.
            "ack_emulation": False,
            "socket_connect_timeout": settings.redis_timeout_seconds,
            "socket_timeout": settings.redis_timeout_seconds,
            "socket_keepalive": True,
        },
    )
    return app


def send_wakeups(settings: Settings, pipeline: str, slice_ids: Iterable[int]) -> None:
    """Ring once for each slice, within `redis_timeout_seconds` altogether.

    Raises Unreachable when Redis does not take them in time: nothing is lost by that, SQL has the work.
    """
    deadline = time.monotonic() + settings.redis_timeout_seconds
    app = celery_app(settings)
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=settings.redis_timeout_seconds)
            producer = app.amqp.Producer(connection, auto_declare=False)
            for slice_id in slice_ids:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"ringing took longer than {settings.redis_timeout_seconds} s")
                app.send_task(WAKEUP_TASK, args=[pipeline, slice_id], **_delivery_options(pipeline, producer))
    except Exception as error:  # who rings has committed: nothing that goes wrong here may pass for a failed command
        raise _unreachable_error(settings, error, "does not take bells") from error
    finally:
        app.close()


def queue_depths(settings: Settings, pipelines: Sequence[str]) -> dict[str, int]:
    """How many bells of each pipeline nobody has heard yet; raises Unreachable."""
    with _redis_client(settings) as client:
        return {pipeline: client.llen(queue_name(pipeline)) for pipeline in pipelines}


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a Redis or Valkey says of itself; a limit of 0 bytes is none."""

    kind: str
    version: str
    eviction_policy: str  # `maxmemory-policy`
    used_memory_bytes: int
    max_memory_bytes: int


def server_info(settings: Settings) -> ServerInfo:
    """Ask the server what it is, within `redis_timeout_seconds`; raises Unreachable."""
    with _redis_client(settings) as client:
        said = client.info()
    valkey = "valkey_version" in said
    return ServerInfo(
        kind="Valkey" if valkey else "Redis",
        version=str(said["valkey_version" if valkey else "redis_version"]),
        eviction_policy=said["maxmemory_policy"],
        used_memory_bytes=said["used_memory"],
        max_memory_bytes=said["maxmemory"],
    )


@contextmanager
def _redis_client(settings: Settings) -> Iterator[Any]:
    """A Redis client; raises Unreachable, also for what goes wrong inside."""
    app = celery_app(settings)
    try:
        with app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=settings.redis_timeout_seconds)
            yield connection.default_channel.client
    except Exception as error:  # a Redis that answers what no Redis does is as good as none
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
        "declare": (),  # the list is all there is to a queue: no tables of bindings on Redis
    }
