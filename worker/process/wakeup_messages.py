"""The format of wakeups on Redis: validates items and builds the messages that Celery receives for them.

Anyone with write access to Redis can push any item, so only a pipeline's name is taken from it.
"""

import base64
import json
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

import structlog

from models.lifecycle import wakeups

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 16 * 1024  # a wakeup takes about 1 KiB
LOG_INTERVAL_SECONDS = 5.0  # at most one log line on dropped items in this time

# Celery would compress, delay, drop or limit a message with these fields; wakeups use none of them.
FORBIDDEN_HEADERS = ("compression", "eta", "expires", "group", "stamps")
NO_TIME_LIMITS = (None, [None, None])


class InvalidWakeup(Exception):
    """The item is not a wakeup; the message says why and quotes nothing from the item."""


def check_wakeup(item: bytes, pipeline: str) -> None:
    """Check an item of a pipeline's queue. Raises InvalidWakeup if it is not a wakeup."""
    if len(item) > MAX_MESSAGE_BYTES:
        raise InvalidWakeup("too long")
    try:
        message = _require_object(json.loads(item))
    except (ValueError, RecursionError):
        raise InvalidWakeup("not JSON") from None
    headers, properties = _require_object(message.get("headers")), _require_object(message.get("properties"))
    if headers.get("task") != wakeups.WAKEUP_TASK:
        raise InvalidWakeup("another task")
    if any(map(headers.get, FORBIDDEN_HEADERS)) or headers.get("timelimit") not in NO_TIME_LIMITS:
        raise InvalidWakeup("headers that a wakeup never has")
    coded = (message.get("content-type"), message.get("content-encoding"), properties.get("body_encoding"))
    if coded != ("application/json", "utf-8", "base64"):
        raise InvalidWakeup("encoded in another way")
    _check_arguments(_decode_body(message.get("body")), pipeline)


def build_message(pipeline: str) -> dict[str, Any]:
    """Build a Celery message in kombu's format that holds a wakeup for this pipeline and nothing else."""
    tag = str(uuid.uuid4())
    body = json.dumps([[pipeline], {}, {}]).encode()
    return {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": wakeups.WAKEUP_TASK,
            "id": tag,
            "root_id": tag,
            "parent_id": None,
            "group": None,
        },
        "properties": {
            "correlation_id": tag,
            "delivery_tag": tag,
            "delivery_info": {"exchange": "", "routing_key": wakeups.queue_name(pipeline)},
            "body_encoding": "base64",
            "priority": 0,
        },
    }


class RejectionLog:
    """Counts dropped items and logs the first at once, then at most one line in `LOG_INTERVAL_SECONDS`."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()
        self._next_report_at = 0.0

    def record(self, reason: str, now: float) -> None:
        """Count one dropped item; `now` is in seconds of the monotonic clock."""
        self._reasons[reason] += 1
        self.report_if_due(now)

    def report_if_due(self, now: float) -> None:
        """Log the counts, if there are any and the last line is old enough."""
        if self._reasons and now >= self._next_report_at:
            log.warning("wakeups.rejected", count=self._reasons.total(), reasons=dict(self._reasons))
            self._reasons.clear()
            self._next_report_at = now + LOG_INTERVAL_SECONDS


def _require_object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidWakeup("not a Celery message")
    return value


def _decode_body(encoded: Any) -> Any:
    try:
        return json.loads(base64.b64decode(encoded, validate=True))
    except (TypeError, ValueError, RecursionError):
        raise InvalidWakeup("another body") from None


def _check_arguments(body: Any, pipeline: str) -> None:
    match body:
        case [[str(name), *_], {**named}, {**linked}]:  # earlier versions sent a slice's id as well
            pass
        case _:
            raise InvalidWakeup("other arguments")
    if named or any(linked.values()):
        raise InvalidWakeup("other arguments")
    if name != pipeline:
        raise InvalidWakeup("another pipeline")
