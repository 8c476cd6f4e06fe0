"""`GET /api/batches/{batch_id}/webhook-events`: what was sent to the webhook of a batch."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from producer.server.access import Reader
from producer.server.context import Context
from producer.server.native import responses
from producer.server.native.batches.reading import BatchId
from producer.webhooks import batch_deliveries

router = APIRouter(tags=["batches"])

EXAMPLE: dict[str, Any] = {
    "type": "batch.completed",
    "occurred_at": "2026-11-25T06:00:02.310Z",
    "state": "delivered",
    "attempts": 1,
    "delivered_at": "2026-11-25T06:00:03.020Z",
}


class WebhookEvent(BaseModel):
    """The delivery of one event to the batch's webhook."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    type: str
    occurred_at: datetime
    state: Literal["pending", "delivered", "abandoned"]
    attempts: int
    delivered_at: datetime | None


class WebhookEventList(BaseModel):
    """Deliveries, the newest first; none for a batch without a webhook."""

    object: Literal["list"]
    data: list[WebhookEvent]


@router.get(
    "/batches/{batch_id}/webhook-events", summary="List what a webhook was sent", response_model=WebhookEventList
)
def list_webhook_events(context: Context, principal: Reader, batch_id: BatchId) -> Response:
    """List the events of a batch, and whether its webhook accepted them."""
    context.get_batch(principal, batch_id)
    deliveries = batch_deliveries.list_deliveries(context.database, batch_id)
    return responses.list_response([delivery.as_dict() for delivery in deliveries])
