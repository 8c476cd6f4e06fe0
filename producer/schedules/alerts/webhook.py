"""The webhook: events that are due are sent to their schedule's address, signed, at least once.

Whoever sends one moves `send_at` on first, so that no two send it at the same time; who dies over it leaves it to be
sent again then. The receiver tells doubles by `webhook-id`, which stays.
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

from models.columns import UtcDateTime
from models.db import Database
from models.errors import SettingsError
from models.settings import Settings
from producer.results.pages import format_timestamp
from producer.schedules.alerts.http_post import DeliveryFailed, post
from producer.schedules.alerts.signing import SigningSecret
from producer.schedules.alerts.webhook_address import AddressPolicy

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 10
FIRST_RETRY_SECONDS = 60.0  # longer than a request may take: until then nobody else sends the same
MAX_ROUND_SECONDS = 30.0
MAX_RETRY_SECONDS = 14_400.0  # the ten of them are over after about eight hours

PostFunction = Callable[..., None]  # as `posting.post`

# Locked rows are another sender's, who moves them on in this moment.
SELECT_DUE_EVENT = """
SELECT e.id, e.schedule, e.slot, e.kind, e.message, e.at, e.url, e.tries + 1 AS number,
       (SELECT r.batch_id FROM runs r WHERE r.schedule = e.schedule AND r.slot = e.slot) AS batch_id
FROM events e WHERE e.send_at <= {now} ORDER BY e.send_at, e.id LIMIT 1 {skip_locked}
"""
POSTPONE_EVENT = "UPDATE events SET tries = :number, send_at = {later} WHERE id = :id"
MARK_DELIVERED = "UPDATE events SET sent_at = {now}, send_at = NULL WHERE id = :id"
ABANDON_EVENT = "UPDATE events SET send_at = NULL WHERE id = :id AND tries = :number"


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """One try to send an event."""

    event_id: int
    id: str
    attempt: int  # of the try, from 1
    url: str
    body: bytes


def send_due(
    database: Database, settings: Settings, *, send: PostFunction = post, clock: Callable[[], float] = time.time
) -> int:
    """Send what is due, one after the other; returns how many were taken. What is not, is tried again later.

    So is what can't be signed here, for want of a `webhook_secret`, and what leads to an address that is neither public
    nor among `webhook_allowed_hosts`: another machine may have them. `clock` gives Unix seconds. After half a minute no
    other is begun: a receiver that hangs holds nobody up for long.
    """
    taken, began = 0, clock()
    send = partial(send, reach=AddressPolicy.from_setting(settings.webhook_allowed_hosts))
    while clock() - began < MAX_ROUND_SECONDS and (row := _claim_next(database)) is not None:
        taken += _deliver(database, settings, row, send, int(clock()))
    return taken


def backoff_seconds(attempt: int) -> float:
    """Seconds until the next try, after so many: a minute, then twice as long each time, up to four hours."""
    return min(FIRST_RETRY_SECONDS * 2.0 ** (attempt - 1), MAX_RETRY_SECONDS)


def _claim_next(database: Database) -> Row[Any] | None:
    """Take the next one on, in a short transaction that is over before anything is sent."""
    sql = database.sql
    due = text(SELECT_DUE_EVENT.format(now=sql.now, skip_locked=sql.skip_locked)).columns(
        slot=UtcDateTime, at=UtcDateTime
    )
    with database.write() as connection:
        row = connection.execute(due).one_or_none()
        if row is None:
            return None
        values = {"id": row.id, "number": row.number, "seconds": backoff_seconds(row.number)}
        connection.execute(text(POSTPONE_EVENT.format(later=sql.now_plus_seconds)), values)
    return row


def _deliver(database: Database, settings: Settings, row: Row[Any], send: PostFunction, now: int) -> bool:
    about = {"event_id": row.id, "number": row.number}
    try:
        message = _build_message(row)
        about["host"] = urlsplit(message.url).hostname
        send(message.url, message.body, _signing_secret(settings).signature_headers(message.id, now, message.body))
    except Exception as error:
        known = isinstance(error, DeliveryFailed)
        problem = str(error) if known else f"it could not be sent ({type(error).__name__})"
        traceback = None if known or row.number > 1 else error
        if row.number < MAX_ATTEMPTS:
            log.warning(
                "webhook.not_taken", **about, problem=problem, seconds=backoff_seconds(row.number), exc_info=traceback
            )
            return False
        log.error("webhook.given_up", **about, problem=problem)
        _execute(database, ABANDON_EVENT, id=row.id, number=row.number)
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
    slot: datetime | None = row.slot
    data = {"schedule": row.schedule, "slot": slot and format_timestamp(slot), "kind": row.kind, "message": row.message}
    told = {
        "type": f"schedule.{row.kind}",
        "timestamp": format_timestamp(row.at),
        "data": {**data, "batch_id": row.batch_id},
    }
    # An event's number alone may be another's in another database that tells the same receiver.
    named = hashlib.sha256(f"{row.id} {row.schedule} {slot} {row.kind} {row.at}".encode()).hexdigest()
    return WebhookMessage(row.id, f"msg_{named[:32]}", row.number, row.url, json.dumps(told).encode())
