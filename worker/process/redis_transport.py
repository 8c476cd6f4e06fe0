"""A worker's Redis transport for Celery accepts nothing but wakeups from a queue.

kombu trusts its input: it decompresses, delays and decodes an item as the headers ask, and a malformed item ends its
loop. This transport limits each item's size on receipt, validates it, and builds a new message from its two values.
"""

import time
from queue import Empty
from typing import Any

from celery.app.amqp import AMQP
from kombu import Connection
from kombu.transport import redis as kombu_redis
from kombu.utils.encoding import bytes_to_str
from redis._parsers.resp2 import _RESP2Parser
from redis._parsers.socket import SocketBuffer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from models.lifecycle import wakeups
from worker.process import wakeup_messages
from worker.process.wakeup_messages import InvalidWakeup, RejectionLog

READ_CHUNK_BYTES = 64 * 1024
UNREADABLE_RETRY_SECONDS = 1.0  # pause for a key that is not a list, or that we may not read
QUEUE_KEY_TYPES = (b"list", b"none")  # types that a queue's key may have


class BoundedBuffer(SocketBuffer):
    """Discards values that are too long for a wakeup as they arrive."""

    def read(self, length: int, *args: Any, **kwargs: Any) -> bytes:
        """Read a value of `length` bytes; a long one is replaced by zeros, one byte more than a wakeup may have."""
        if length <= wakeup_messages.MAX_MESSAGE_BYTES:
            return super().read(length, *args, **kwargs)
        remaining = length + len(b"\r\n")
        while remaining:
            skipped = len(self._buffer.read(min(remaining, READ_CHUNK_BYTES)))
            remaining -= skipped
            if not skipped:
                self._buffer.seek(0)
                self._buffer.truncate()
                self._read_from_socket(*args, **kwargs)
        return bytes(wakeup_messages.MAX_MESSAGE_BYTES + 1)


class BoundedParser(_RESP2Parser):
    """Reads replies through a bounded buffer."""

    def on_connect(self, connection: Any) -> None:
        """Replace the buffer when a socket is connected."""
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        self._buffer = BoundedBuffer(self._sock, self.socket_read_size, connection.socket_timeout)  # type: ignore[arg-type]


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    """Delivers wakeups from the pipelines' queues and drops every other item."""

    do_restore = False  # losing a wakeup at exit is harmless, so nothing is pushed back or dumped to a file
    supports_fanout = False  # queue names are fixed, so only senders write to Redis

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._rejections = RejectionLog()
        self._unreadable_until: dict[str, float] = {}  # monotonic time of the next try, by queue
        super().__init__(*args, **kwargs)

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        # kombu 5.7 reads `connection.client.hostname` on a connection that it has just closed, and the AttributeError
        # ends its loop. It reconnects after a ConnectionError of redis-py.
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the connection to Redis was closed")
        return {**super()._connparams(*args, **kwargs), "parser_class": BoundedParser, "protocol": 2}

    def _size(self, queue: str) -> int:
        return 0  # only queue declaration asks, and it must not fail for a key that is not a list

    def _brpop_start(self, timeout: float | None = None) -> None:
        now = time.monotonic()
        self._rejections.report_if_due(now)
        if self._unreadable_until and min(self._unreadable_until.values()) <= now:
            self._unreadable_until = {queue: until for queue, until in self._unreadable_until.items() if until > now}
        queues = [
            queue for queue in self._queue_cycle.consume(len(self.active_queues)) if queue not in self._unreadable_until
        ]
        if not queues:
            time.sleep(UNREADABLE_RETRY_SECONDS / 2)  # no queue can be read until then
            return
        self._in_poll = self.client.connection
        self._brpop_sent_at = now
        self.client.connection.send_command("BRPOP", *queues, timeout or self.brpop_timeout)

    def _brpop_read(self, **options: Any) -> bool:
        try:
            popped = self.client.parse_response(self.client.connection, "BRPOP", **options)
        except ResponseError:
            self._pause_unreadable_queues()
            raise Empty from None
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        finally:
            self._in_poll = None
        if not popped:
            raise Empty
        queue = bytes_to_str(popped[0])
        self._queue_cycle.rotate(queue)
        self._deliver_wakeup(queue, popped[1])
        return True

    def _deliver_wakeup(self, queue: str, item: bytes) -> None:
        try:
            wakeup_messages.check_wakeup(item, wakeups.pipeline_for_queue(queue))
        except InvalidWakeup as refusal:
            self._rejections.record(str(refusal), time.monotonic())
        else:
            self.connection._deliver(wakeup_messages.build_message(wakeups.pipeline_for_queue(queue)), queue)

    def _pause_unreadable_queues(self) -> None:
        now = time.monotonic()
        for queue in self._unreadable_queues() or self.active_queues:
            self._unreadable_until[queue] = now + UNREADABLE_RETRY_SECONDS
        self._rejections.record("the queue's key can't be read, or is no list", now)

    def _unreadable_queues(self) -> list[str]:
        try:
            return [queue for queue in self.active_queues if self.client.type(queue) not in QUEUE_KEY_TYPES]
        except ResponseError:
            return []


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """kombu's Redis transport with a channel that accepts only wakeups."""

    Channel = Channel


class _Connection(Connection):  # type: ignore[misc]
    def get_transport_cls(self) -> type[Transport]:
        return Transport


class WakeupAMQP(AMQP):  # type: ignore[misc]
    """Celery's AMQP layer on top of this transport."""

    Connection = _Connection
