"""The outbox of schedules' events: which are due, and what is sent."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row

from models.dialects.columns import Document, UtcDateTime
from models.documents import format_timestamp
from producer.webhooks.delivery import Outbox, WebhookMessage

# Some of each tenant, so that no tenant's events hide those of others.
SELECT_DUE_EVENT = """
SELECT e.id, e.schedule, e.scheduled_at, e.kind, e.message, e.occurred_at, e.webhook_url, e.tenant,
       e.delivery_attempts + 1 AS attempt,
       (SELECT r.batch_id FROM runs r WHERE r.schedule = e.schedule AND r.scheduled_at = e.scheduled_at) AS batch_id,
       (SELECT r.summary FROM runs r WHERE r.schedule = e.schedule AND r.scheduled_at = e.scheduled_at) AS summary
FROM (SELECT d.*, s.tenant,
             row_number() OVER (PARTITION BY s.tenant ORDER BY d.next_delivery_at, d.id) AS place_in_tenant
      FROM events d JOIN schedules s ON s.name = d.schedule WHERE d.next_delivery_at <= {now}) e
WHERE e.place_in_tenant <= :of_tenant ORDER BY e.place_in_tenant, e.next_delivery_at, e.id LIMIT :most
"""
POSTPONE_EVENT = (
    "UPDATE events SET delivery_attempts = :attempt, next_delivery_at = {later}"
    " WHERE id = :id AND next_delivery_at <= {now}"
)
DEFER_EVENTS = "UPDATE events SET next_delivery_at = {later} WHERE id IN :ids AND next_delivery_at <= {now}"
MARK_DELIVERED = "UPDATE events SET delivered_at = {now}, next_delivery_at = NULL WHERE id = :id"
ABANDON_EVENT = "UPDATE events SET next_delivery_at = NULL WHERE id = :id AND delivery_attempts = :attempt"


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
    # Another database with the same receiver may use the same event number.
    return WebhookMessage.create(f"{row.id} {row.schedule} {scheduled_at} {row.kind} {row.occurred_at}", payload)


SCHEDULE_EVENTS = Outbox(
    SELECT_DUE_EVENT,
    POSTPONE_EVENT,
    MARK_DELIVERED,
    ABANDON_EVENT,
    DEFER_EVENTS,
    {"scheduled_at": UtcDateTime, "occurred_at": UtcDateTime, "summary": Document},
    _build_message,
)
