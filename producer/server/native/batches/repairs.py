"""`POST /api/batches/{id}/repair`: put corrected inputs in the places of failed jobs, and run them."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import UsageError
from producer import readers
from producer.readers.items import open_items
from producer.readers.limits import Limits
from producer.readers.rows import Source
from producer.server.access import Submitter
from producer.server.context import Context, ServerContext
from producer.server.native import responses
from producer.server.native.batches import bodies, changes, long_acts, objects
from producer.server.native.batches.actions import reply_requeued
from producer.server.native.batches.changes import Requeued
from producer.server.native.batches.long_acts import Act
from producer.server.native.batches.reading import BatchId
from producer.server.native.batches.submission_docs import ROW_BODIES
from producer.server.native.batches.submission_options import parse_json
from producer.submission.repair import repair_jobs
from producer.submission.repair_columns import RENAMING_ADVICE, RepairColumns
from producer.times import Deadline
from producer.uploads.multipart import Upload
from producer.uploads.store import open_store

router = APIRouter(tags=["batches"])

MAX_REPAIR_BYTES = 64 * 2**20  # uncompressed; a repair is read while its client waits

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

    def run() -> Requeued:
        with ExitStack() as cleanup:
            cleanup.callback(discard)
            context.get_batch(principal, batch_id)
            columns = RepairColumns.for_batch(context.database, batch_id, advice=RENAMING_ADVICE)
            with _open_rows(context, columns, kind, body) as (source, given_deadline):
                when = deadline if given_deadline is None else given_deadline
                new_deadline = None if when is None else Deadline.parse_future(when)
                size, cap_of = context.settings.slice_size, context.settings.unanswered_jobs_cap
                repaired = repair_jobs(context.database, batch_id, source, size, new_deadline, cap_of)
                return changes.requeue(context, repaired)

    def discard() -> None:
        if isinstance(body, Upload):
            open_store(context.settings).delete(body.stored.location)

    digest = body.stored.sha256 if isinstance(body, Upload) else hashlib.sha256(body).hexdigest()
    key = ("repair", batch_id, kind, digest, deadline)
    act = Act(key, principal.tenant, run, long_acts.REPAIRS, discard)
    return await long_acts.perform(act, reply_requeued(context, principal, batch_id))


@contextmanager
def _open_rows(
    context: ServerContext, columns: RepairColumns, kind: str, body: bytes | Upload
) -> Iterator[tuple[Source, str | None]]:
    """The rows, and the deadline that a JSON body has."""
    limits = Limits.from_settings(context.settings)
    limits = replace(limits, max_source_bytes=min(limits.max_source_bytes, MAX_REPAIR_BYTES))
    if isinstance(body, bytes):
        parsed = _parse(body)
        yield open_items(parsed.inputs, None, columns, limits), parsed.deadline
        return
    file_format = bodies.FORMAT_BY_TYPE[kind]
    assert file_format is not None
    with (
        open_store(context.settings).open(body.stored.location) as stream,
        readers.open_stream(stream, "the body", file_format, columns, limits) as source,
    ):
        yield source, None


def _parse(body: bytes) -> RepairBody:
    try:
        return RepairBody.model_validate(parse_json("the body", body))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part)[:80] for part in first["loc"])
        raise UsageError(f"{place}: {first['msg']}") from None
