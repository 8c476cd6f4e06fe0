"""The outbox of batches' events, which `models/lifecycle/batch_events.py` records: which are due, and what is sent."""

from typing import Any

from sqlalchemy import Row

from models.dialects.columns import Document, UtcDateTime
from models.documents import format_timestamp
from producer.webhooks.delivery import Outbox, WebhookMessage

# Some of each tenant, so that no tenant's events hide those of others. The event of a deleted batch has no tenant.
SELECT_DUE_EVENT = """
SELECT id, batch_id, kind, payload, occurred_at, webhook_url, tenant, delivery_attempts + 1 AS attempt FROM (
    SELECT e.*, b.tenant,
           row_number() OVER (PARTITION BY b.tenant ORDER BY e.next_delivery_at, e.id) AS place_in_tenant
    FROM batch_events e LEFT JOIN batches b ON b.id = e.batch_id WHERE e.next_delivery_at <= {now}) due
WHERE place_in_tenant <= :of_tenant ORDER BY place_in_tenant, next_delivery_at, id LIMIT :most
"""
POSTPONE_EVENT = (
    "UPDATE batch_events SET delivery_attempts = :attempt, next_delivery_at = {later}"
    " WHERE id = :id AND next_delivery_at <= {now}"
)
DEFER_EVENTS = "UPDATE batch_events SET next_delivery_at = {later} WHERE id IN :ids AND next_delivery_at <= {now}"
MARK_DELIVERED = "UPDATE batch_events SET delivered_at = {now}, next_delivery_at = NULL WHERE id = :id"
ABANDON_EVENT = "UPDATE batch_events SET next_delivery_at = NULL WHERE id = :id AND delivery_attempts = :attempt"


def _build_message(row: Row[Any]) -> WebhookMessage:
    """Build a message that OpenAI's clients read as one of theirs (`client.webhooks.unwrap`)."""
    identity = f"{row.id} {row.batch_id} {row.kind} {row.occurred_at}"
    message_id = WebhookMessage.create(identity, {}).id
    payload = {
        "id": message_id.replace("msg_", "evt_"),
        "object": "event",
        "created_at": int(row.occurred_at.timestamp()),
        "type": row.kind,
        "timestamp": format_timestamp(row.occurred_at),
        "data": row.payload,
    }
    return WebhookMessage.create(identity, payload)


BATCH_EVENTS = Outbox(
    SELECT_DUE_EVENT,
    POSTPONE_EVENT,
    MARK_DELIVERED,
    ABANDON_EVENT,
    DEFER_EVENTS,
    {"payload": Document, "occurred_at": UtcDateTime},
    _build_message,
)
