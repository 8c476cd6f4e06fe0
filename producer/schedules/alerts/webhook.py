"""The webhook, which sends due events to their schedule's address, signed and at least once.

A sender first postpones `next_delivery_at`, so that no two send an event at the same time. If the sender crashes, the
event is sent again then. The receiver recognises duplicates by `webhook-id`, which stays the same.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Row, text

from models.backoff import max_backoff_seconds
from models.db import Database
from models.dialects.columns import Document, UtcDateTime
from models.documents import format_timestamp
from models.errors import SettingsError
from models.settings import Settings
from producer.schedules.alerts.http_post import DeliveryFailed, post
from producer.schedules.alerts.signing import SigningSecret
from producer.schedules.alerts.webhook_address import AddressPolicy

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 10
FIRST_RETRY_SECONDS = 60.0  # longer than a request may take, so that no other sender sends the same event
MAX_ROUND_SECONDS = 30.0
MAX_RETRY_SECONDS = 14_400.0  # all ten attempts take about eight hours

PostFunction = Callable[..., None]  # as `http_post.post`

# Locked rows are skipped because another sender is postponing them right now.
SELECT_DUE_EVENT = """
SELECT e.id, e.schedule, e.scheduled_at, e.kind, e.message, e.occurred_at, e.webhook_url,
       e.delivery_attempts + 1 AS attempt,
       (SELECT r.batch_id FROM runs r WHERE r.schedule = e.schedule AND r.scheduled_at = e.scheduled_at) AS batch_id,
       (SELECT r.summary FROM runs r WHERE r.schedule = e.schedule AND r.scheduled_at = e.scheduled_at) AS summary
FROM events e WHERE e.next_delivery_at <= {now} ORDER BY e.next_delivery_at, e.id LIMIT 1 {skip_locked}
"""
POSTPONE_EVENT = "UPDATE events SET delivery_attempts = :attempt, next_delivery_at = {later} WHERE id = :id"
MARK_DELIVERED = "UPDATE events SET delivered_at = {now}, next_delivery_at = NULL WHERE id = :id"
ABANDON_EVENT = "UPDATE events SET next_delivery_at = NULL WHERE id = :id AND delivery_attempts = :attempt"


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """One attempt to send an event."""

    event_id: int
    id: str
    attempt: int  # from 1
    url: str
    body: bytes


def send_due(
    database: Database, settings: Settings, *, send: PostFunction = post, clock: Callable[[], float] = time.time
) -> int:
    """Send due events one after the other; return how many were delivered. The others are retried later.

    An event that cannot be signed here is retried too, because another machine may have `webhook_secret`. The same
    holds for an address that is neither public nor in `webhook_allowed_hosts`. After 30 seconds no further event is
    started, so that a receiver that hangs does not block the tick for long.

    database: our database
    settings: settings with `webhook_secret` and `webhook_allowed_hosts`
    send: function that posts a message
    clock: function that returns Unix seconds
    """
    delivered, started = 0, clock()
    send = partial(send, address_policy=AddressPolicy.from_setting(settings.webhook_allowed_hosts))
    while clock() - started < MAX_ROUND_SECONDS and (row := _claim_next(database)) is not None:
        delivered += _deliver(database, settings, row, send, int(clock()))
    return delivered


def retry_seconds(attempt: int) -> float:
    """Return the seconds until the next attempt: a minute, then doubled each time, up to four hours."""
    return max_backoff_seconds(attempt, FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)


def _claim_next(database: Database) -> Row[Any] | None:
    """Claim the next due event, in a short transaction that commits before anything is sent."""
    sql = database.sql
    due = text(SELECT_DUE_EVENT.format(now=sql.now, skip_locked=sql.skip_locked)).columns(
        scheduled_at=UtcDateTime, occurred_at=UtcDateTime, summary=Document
    )
    with database.write() as connection:
        row = connection.execute(due).one_or_none()
        if row is None:
            return None
        values = {"id": row.id, "attempt": row.attempt, "seconds": retry_seconds(row.attempt)}
        connection.execute(text(POSTPONE_EVENT.format(later=sql.now_plus_seconds)), values)
    return row


def _deliver(database: Database, settings: Settings, row: Row[Any], send: PostFunction, now: int) -> bool:
    fields = {"event_id": row.id, "attempt": row.attempt}
    try:
        message = _build_message(row)
        fields["host"] = urlsplit(message.url).hostname
        send(message.url, message.body, _signing_secret(settings).signature_headers(message.id, now, message.body))
    except Exception as error:
        is_refused = isinstance(error, DeliveryFailed)
        problem = str(error) if is_refused else f"it could not be sent ({type(error).__name__})"
        traceback = None if is_refused or row.attempt > 1 else error
        if row.attempt < MAX_ATTEMPTS:
            log.warning(
                "webhook.delivery_failed",
                **fields,
                error=problem,
                retry_seconds=retry_seconds(row.attempt),
                exc_info=traceback,
            )
            return False
        log.error("webhook.delivery_abandoned", **fields, error=problem)
        _execute(database, ABANDON_EVENT, id=row.id, attempt=row.attempt)
        return False
    _execute(database, MARK_DELIVERED, id=row.id)
    return True


def _signing_secret(settings: Settings) -> SigningSecret:
    if settings.webhook_secret is None:
        raise DeliveryFailed("webhook_secret is not set here, and nothing is sent unsigned")
    try:
        return SigningSecret.parse(settings.webhook_secret.get_secret_value())
    except SettingsError as error:
        raise DeliveryFailed(str(error)) from None


def _execute(database: Database, statement: str, **values: Any) -> None:
    with database.write() as connection:
        connection.execute(text(statement.format(now=database.sql.now)), values)


def _build_message(row: Row[Any]) -> WebhookMessage:
    scheduled_at: datetime | None = row.scheduled_at
    data = {
        "schedule": row.schedule,
        "scheduled_at": scheduled_at and format_timestamp(scheduled_at),
        "kind": row.kind,
        "message": row.message,
    }
    payload = {
        "type": f"schedule.{row.kind}",
        "timestamp": format_timestamp(row.occurred_at),
        "data": {**data, "batch_id": row.batch_id, "guards": (row.summary or {}).get("guards", {})},
    }
    # Another database with the same receiver may use the same event number, so the ID is a hash of more fields.
    message_hash = hashlib.sha256(
        f"{row.id} {row.schedule} {scheduled_at} {row.kind} {row.occurred_at}".encode()
    ).hexdigest()
    return WebhookMessage(
        row.id, f"msg_{message_hash[:32]}", row.attempt, row.webhook_url, json.dumps(payload).encode()
    )
