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

BELL = "batchmill.bell"
QUEUE_PREFIX = "batchmill."


def queue_name(pipeline: str) -> str:
    """The queue on which a pipeline's bells ring."""
    return QUEUE_PREFIX + pipeline


def pipeline_of(queue: str) -> str:
    """The pipeline whose bells ring on a queue."""
    return queue.removeprefix(QUEUE_PREFIX)


def celery_app(settings: Settings, amqp: type[AMQP] | None = None) -> Celery:
    """A Celery application that takes and sends nothing but JSON and keeps no results.

    amqp: what connects it to Redis; None is Celery's own. Raises Unreachable where the embedded Valkey's socket may be
    somebody else's.
    """
    if settings.redis_url is None and (reason := settings.foreign_socket):
        raise Unreachable(f"the embedded Valkey is not called: {reason}")
    app = Celery("batchmill", broker=settings.redis, amqp=amqp, set_as_current=False)
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
            "socket_connect_timeout": settings.publish_seconds,
            "socket_timeout": settings.publish_seconds,
            "socket_keepalive": True,
        },
    )
    return app


def ring(settings: Settings, pipeline: str, slice_ids: Iterable[int]) -> None:
    """Ring once for each slice, within `publish_seconds` altogether.

    Raises Unreachable when Redis does not take them in time: nothing is lost by that, SQL has the work.
    """
    deadline = time.monotonic() + settings.publish_seconds
    app = celery_app(settings)
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=settings.publish_seconds)
            producer = app.amqp.Producer(connection, auto_declare=False)
            for slice_id in slice_ids:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"ringing took longer than {settings.publish_seconds} s")
                app.send_task(BELL, args=[pipeline, slice_id], **_delivery(pipeline, producer))
    except Exception as error:  # who rings has committed: nothing that goes wrong here may pass for a failed command
        raise _unreachable(settings, error, "does not take bells") from error
    finally:
        app.close()


def depth(settings: Settings, pipelines: Sequence[str]) -> dict[str, int]:
    """How many bells of each pipeline nobody has heard yet; raises Unreachable."""
    with _asked(settings) as client:
        return {pipeline: client.llen(queue_name(pipeline)) for pipeline in pipelines}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a Redis or Valkey says of itself; a limit of 0 bytes is none."""

    kind: str
    version: str
    eviction: str  # `maxmemory-policy`
    used_bytes: int
    limit_bytes: int


def facts(settings: Settings) -> Facts:
    """Ask the server what it is, within `publish_seconds`; raises Unreachable."""
    with _asked(settings) as client:
        said = client.info()
    valkey = "valkey_version" in said
    return Facts(
        kind="Valkey" if valkey else "Redis",
        version=str(said["valkey_version" if valkey else "redis_version"]),
        eviction=said["maxmemory_policy"],
        used_bytes=said["used_memory"],
        limit_bytes=said["maxmemory"],
    )


@contextmanager
def _asked(settings: Settings) -> Iterator[Any]:
    """A Redis client; raises Unreachable, also for what goes wrong inside."""
    app = celery_app(settings)
    try:
        with app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=settings.publish_seconds)
            yield connection.default_channel.client
    except Exception as error:  # a Redis that answers what no Redis does is as good as none
        raise _unreachable(settings, error, "does not answer") from error
    finally:
        app.close()


def _unreachable(settings: Settings, error: Exception, what: str) -> Unreachable:
    known = isinstance(error, RedisError | KombuError | OSError)
    reason = (known and str(error).rstrip(".")) or type(error).__name__
    return Unreachable(f"Redis at {urls.shown(settings.redis)} {what}: {reason}")


def _delivery(pipeline: str, producer: Any) -> dict[str, Any]:
    return {
        "queue": queue_name(pipeline), "producer": producer, "retry": False, "ignore_result": True,
        "declare": (),  # the list is all there is to a queue: no tables of bindings on Redis
    }  # fmt: skip
