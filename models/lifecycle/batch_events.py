"""The event of a batch that ends, recorded with its end if the batch has a webhook, and sent there soon after."""

from typing import Any

from sqlalchemy import Connection, text

from models.dialects.fragments import SqlFragments
from models.documents import to_json
from models.states import BatchStatus

SELECT_END = """
SELECT id, pipeline, webhook_url, error_code, total, succeeded, failed, cancelled, expired, reused
FROM batches WHERE id = :batch_id
"""

RECORD_EVENT = """
INSERT INTO batch_events (batch_id, kind, payload, webhook_url, next_delivery_at)
VALUES (:batch_id, :kind, {payload}, :webhook_url, {now})
"""

COUNTS = ("total", "succeeded", "failed", "cancelled", "expired")


def record_end(connection: Connection, sql: SqlFragments, batch_id: str, status: BatchStatus) -> None:
    """Record the event of a batch that has a webhook and ends in this transaction.

    The event has ids, counts and codes, no inputs, names or metadata. A retried batch that ends again has another one.
    """
    batch = connection.execute(text(SELECT_END), {"batch_id": batch_id}).one()
    payload: dict[str, Any] = {
        "id": batch.id,
        "status": status.value,
        "pipeline": batch.pipeline,
        "error_code": batch.error_code,
        "request_counts": {name: getattr(batch, name) for name in COUNTS},
        "reused": batch.reused,
    }
    values = {
        "batch_id": batch_id,
        "kind": f"batch.{status.value}",
        "payload": to_json(payload),
        "webhook_url": batch.webhook_url,
    }
    as_document = "CAST(:payload AS jsonb)" if connection.dialect.name == "postgresql" else ":payload"
    connection.execute(text(RECORD_EVENT.format(payload=as_document, now=sql.now)), values)
