"""The sender of webhooks: it sends due events to their address, signed and at least once.

A sender first postpones `next_delivery_at`, so that no two send an event at the same time. If the sender crashes, the
event is sent again then. The receiver recognises duplicates by `webhook-id`, which stays the same.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Row, TextClause, text

from models.backoff import max_backoff_seconds
from models.db import Database
from models.errors import SettingsError
from models.settings import Settings
from producer.webhooks.http_post import DeliveryFailed, post
from producer.webhooks.signing import SigningSecret
from producer.webhooks.webhook_address import AddressPolicy

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 10
FIRST_RETRY_SECONDS = 60.0  # longer than a request may take, so that no other sender sends the same event
MAX_ROUND_SECONDS = 30.0
MAX_RETRY_SECONDS = 14_400.0  # all ten attempts take about eight hours

PostFunction = Callable[..., None]  # as `http_post.post`


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """The content of an event: its id for the receiver, and its body."""

    id: str
    body: bytes

    @classmethod
    def create(cls, identity: str, payload: Mapping[str, Any]) -> "WebhookMessage":
        """Build a message.

        identity: text that no other event has, also not one of another database with the same receiver
        """
        return cls(f"msg_{hashlib.sha256(identity.encode()).hexdigest()[:32]}", json.dumps(payload).encode())


@dataclass(frozen=True, slots=True)
class Outbox:
    """A table of events with `webhook_url`, `delivery_attempts`, `next_delivery_at` and `delivered_at`.

    select_due: statement for one due event with `id`, `webhook_url` and `attempt`, the number of this attempt from 1
    postpone, mark_delivered, abandon: statements that change an event
    columns: types of the columns of `select_due`
    build_message: function that returns the content of an event
    """

    select_due: str
    postpone: str
    mark_delivered: str
    abandon: str
    columns: Mapping[str, Any]
    build_message: Callable[[Row[Any]], WebhookMessage]


def send_due(
    database: Database,
    settings: Settings,
    outboxes: Sequence[Outbox],
    *,
    send: PostFunction = post,
    clock: Callable[[], float] = time.time,
) -> int:
    """Send due events one after the other; return how many were delivered. The others are retried later.

    An event that cannot be signed here is retried too, because another machine may have `webhook_secret`. The same
    holds for an address that is neither public nor in `webhook_allowed_hosts`. After 30 seconds no further event is
    started, so that a receiver that hangs does not block the tick for long. The outboxes take turns.

    database: our database
    settings: settings with `webhook_secret` and `webhook_allowed_hosts`
    outboxes: tables of events
    send: function that posts a message
    clock: function that returns Unix seconds
    """
    delivered, started, waiting = 0, clock(), list(outboxes)
    send = partial(send, address_policy=AddressPolicy.from_setting(settings.webhook_allowed_hosts))
    while waiting and clock() - started < MAX_ROUND_SECONDS:
        outbox = waiting.pop(0)
        row = _claim_next(database, outbox)
        if row is not None:
            delivered += _deliver(database, settings, outbox, row, send, int(clock()))
            waiting.append(outbox)
    return delivered


def retry_seconds(attempt: int) -> float:
    """Return the seconds until the next attempt: a minute, then doubled each time, up to four hours."""
    return max_backoff_seconds(attempt, FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)


def _claim_next(database: Database, outbox: Outbox) -> Row[Any] | None:
    """Claim the next due event, in a short transaction that commits before anything is sent."""
    sql = database.sql
    # Locked rows are skipped because another sender is postponing them right now.
    due = text(outbox.select_due.format(now=sql.now, skip_locked=sql.skip_locked)).columns(**outbox.columns)
    with database.write() as connection:
        row: Row[Any] | None = connection.execute(due).one_or_none()
        if row is None:
            return None
        values = {"id": row.id, "attempt": row.attempt, "seconds": retry_seconds(row.attempt)}
        connection.execute(text(outbox.postpone.format(later=sql.now_plus_seconds)), values)
    return row


def _deliver(
    database: Database, settings: Settings, outbox: Outbox, row: Row[Any], send: PostFunction, now: int
) -> bool:
    fields = {"event_id": row.id, "attempt": row.attempt}
    try:
        message = outbox.build_message(row)
        fields["host"] = urlsplit(row.webhook_url).hostname
        signature = _signing_secret(settings).signature_headers(message.id, now, message.body)
        send(row.webhook_url, message.body, signature)
    except Exception as error:
        is_refused = isinstance(error, DeliveryFailed)
        problem = str(error) if is_refused else f"it could not be sent ({type(error).__name__})"
        if row.attempt < MAX_ATTEMPTS:
            log.warning(
                "webhook.delivery_failed",
                **fields,
                error=problem,
                retry_seconds=retry_seconds(row.attempt),
                exc_info=None if is_refused or row.attempt > 1 else error,
            )
            return False
        log.error("webhook.delivery_abandoned", **fields, error=problem)
        _execute(database, text(outbox.abandon), id=row.id, attempt=row.attempt)
        return False
    _execute(database, text(outbox.mark_delivered.format(now=database.sql.now)), id=row.id)
    return True


def _signing_secret(settings: Settings) -> SigningSecret:
    if settings.webhook_secret is None:
        raise DeliveryFailed("webhook_secret is not set here, and nothing is sent unsigned")
    try:
        return SigningSecret.parse(settings.webhook_secret.get_secret_value())
    except SettingsError as error:
        raise DeliveryFailed(str(error)) from None


def _execute(database: Database, statement: TextClause, **values: Any) -> None:
    with database.write() as connection:
        connection.execute(statement, values)
