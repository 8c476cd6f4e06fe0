"""`POST /api/batches/{id}/repair`: put corrected inputs in the places of failed jobs, and run them."""

import hashlib
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from producer.server.access import Submitter
from producer.server.context import Context
from producer.server.native import responses
from producer.server.native.batches import changes, long_acts, objects
from producer.server.native.batches.actions import reply_requeued
from producer.server.native.batches.changes import CorrectedRows
from producer.server.native.batches.reading import BatchId
from producer.server.native.batches.submission import bodies
from producer.server.native.batches.submission.submission_docs import ROW_BODIES
from producer.server.native.batches.submission.submission_options import parse_json
from producer.server.requests.field_paths import field_error
from producer.uploads.multipart import Upload

router = APIRouter(tags=["batches"])

ADVICE = {200: {"description": "How many jobs run again."}, 202: {"description": "It takes longer, and goes on."}}


class RepairBody(BaseModel):
    """Corrected inputs."""

    model_config = ConfigDict(extra="forbid")

    inputs: list[dict[str, Any]] = Field(description="Objects with a `position` or the job's id, and the fields.")
    deadline: str | None = Field(None, description="A new deadline, such as `6h`; null keeps the old one.")


DOCS: dict[str, Any] = {
    "responses": ADVICE,
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": RepairBody.model_json_schema(),
                    "example": {"inputs": [{"position": 7, "text": "a better text"}]},
                },
                **{
                    kind: {"schema": content["schema"]}
                    for kind, content in ROW_BODIES.items()
                    if bodies.FORMAT_BY_TYPE[kind] is not None
                },
            },
        }
    },
}


@router.post("/batches/{batch_id}/repair", summary="Repair failed jobs", response_model=objects.Requeued, **DOCS)
async def repair_batch(
    request: Request,
    context: Context,
    principal: Submitter,
    batch_id: BatchId,
    deadline: Annotated[str | None, Query(max_length=100, description="With rows as the body.")] = None,
) -> Response:
    """Put corrected inputs in the places of failed jobs of an ended batch, and run them.

    Rows as `GET …/errors` gives them may be sent back with another `input`. Rows that can't be jobs, or that name no
    failed job, refuse the whole request. The same rows may be sent again: those that are in place are passed over.
    """
    kind = bodies.content_type(request)
    if kind != responses.JSON and bodies.FORMAT_BY_TYPE.get(kind) is None:
        raise HTTPException(415, "send application/json, or rows as application/x-ndjson, text/csv or Parquet")
    await to_thread.run_sync(context.get_batch, principal, batch_id)  # before anything is received
    body = await bodies.read_body(request) if kind == responses.JSON else await bodies.receive(request, context)
    rows, given_deadline = await to_thread.run_sync(_corrected_rows, kind, body)
    act = changes.repair_act(context, principal, batch_id, rows, deadline if given_deadline is None else given_deadline)
    return await long_acts.perform(act, reply_requeued(context, principal, batch_id))


def _corrected_rows(kind: str, body: bytes | Upload) -> tuple[CorrectedRows, str | None]:
    """The rows, and the deadline that a JSON body has."""
    if isinstance(body, bytes):
        parsed = _parse(body)
        return CorrectedRows(parsed.inputs, hashlib.sha256(body).hexdigest()), parsed.deadline
    return CorrectedRows(body, body.stored.sha256, bodies.FORMAT_BY_TYPE[kind]), None


def _parse(body: bytes) -> RepairBody:
    try:
        return RepairBody.model_validate(parse_json("the body", body))
    except ValidationError as error:
        raise field_error(error) from None
