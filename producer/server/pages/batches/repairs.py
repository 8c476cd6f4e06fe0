"""Repair rows: a file of corrected rows, or the input of one row, takes the places of jobs that failed."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from models.errors import BatchmillError, UsageError
from producer.batches.views import BatchView
from producer.readers.files.source_files import FILE_FORMATS
from producer.server.context import Context, ServerContext
from producer.server.native.batches import changes, long_acts
from producer.server.native.batches.changes import MAX_REPAIR_BYTES, CorrectedRows, Requeued
from producer.server.native.batches.long_acts import Act, Reply
from producer.server.native.batches.reading import BatchId
from producer.server.native.batches.submission.submission_options import parse_json
from producer.server.pages.access.uploads import receive_form
from producer.server.pages.access.visitor import ActionForm, PageSubmitter, Visitor
from producer.server.pages.batches.refusals import refusal_of
from producer.server.pages.batches.row import Position, row_values
from producer.server.pages.frame.rendering import render, see_other
from producer.server.requests.bodies import receiving
from producer.uploads.multipart import DEFAULT_FILENAME, Upload
from producer.uploads.storage.store import open_store

router = APIRouter()

WAIT_SECONDS = 10.0  # for the rows to be read and checked; then the page waits until the batch runs again
MAX_CODE_CHARACTERS, MAX_DEADLINE_CHARACTERS = 200, 100
NOTHING_PUT_BACK = "nothing was put back, because these rows can't take the places of failed ones"
ROW_NOT_PUT_BACK = "the row was not put back, because its input can't be a job"
NO_FILE = "choose the file with the corrected rows"

Code = Annotated[str, Query(max_length=MAX_CODE_CHARACTERS)]


@router.get("/batches/{batch_id}/repair")
def show_repair(
    request: Request, context: Context, visitor: PageSubmitter, batch_id: BatchId, code: Code = ""
) -> Response:
    """Show how to repair rows, with the form for the corrected ones."""
    return _render(request, context, visitor, batch_id, {"code": code})


@router.post("/batches/{batch_id}/repair")
async def repair(request: Request, context: Context, visitor: PageSubmitter, batch_id: BatchId) -> Response:
    """Put the rows of a file in the places of failed jobs, and show the batch."""
    await run_in_threadpool(context.get_batch, visitor.principal, batch_id)  # before anything is received
    fields: dict[str, str] = {}
    try:
        with receiving(request):
            most = min(MAX_REPAIR_BYTES, context.settings.max_upload_bytes)
            upload = await receive_form(request, context, visitor, most, fields)
        act = await run_in_threadpool(_repair_act, context, visitor, batch_id, upload)
        return await _perform(request, context, visitor, act, f"/batches/{batch_id}")
    except BatchmillError as error:
        return await run_in_threadpool(_render, request, context, visitor, batch_id, fields, error)


@router.get("/batches/{batch_id}/rows/{position}/repair")
def leave_repair(
    request: Request, context: Context, visitor: PageSubmitter, batch_id: BatchId, position: Position
) -> Response:
    """Lead to the row; this address stands above a form that was refused."""
    context.get_batch(visitor.principal, batch_id)
    return see_other(request, visitor, f"/batches/{batch_id}/rows/{position}")


@router.post("/batches/{batch_id}/rows/{position}/repair")
async def repair_row(
    request: Request, context: Context, visitor: PageSubmitter, form: ActionForm, batch_id: BatchId, position: Position
) -> Response:
    """Put another input in the place of one failed job, and show it."""
    typed = str(form.get("input") or "")
    try:
        content = [{"position": position, "input": _parse_input(typed)}]
        digest = hashlib.sha256(f"{position} {typed}".encode(errors="replace")).hexdigest()
        act = changes.repair_act(context, visitor.principal, batch_id, CorrectedRows(content, digest), None)
        return await _perform(request, context, visitor, act, f"/batches/{batch_id}/rows/{position}")
    except BatchmillError as error:
        refused = error

    def show() -> Response:
        values = row_values(context, visitor.principal, batch_id, position)
        refusal = refusal_of(refused, values["batch"], ROW_NOT_PUT_BACK)
        values |= {"refusal": refusal, "typed": typed}
        return render(request, visitor, "batches/row.html", refusal.status, **values)

    return await run_in_threadpool(show)


async def _perform(
    request: Request, context: ServerContext, visitor: Visitor, act: Act[Requeued], address: str
) -> Response:
    batch_id = address.split("/")[2]

    def show(requeued: Requeued) -> Response:
        message = repaired_message(requeued, context.get_batch(visitor.principal, batch_id))
        return see_other(request, visitor, address, message, "warn" if requeued.warning else "good")

    def show_reopened() -> Response | None:
        # Until the batch is open again, the repair may be refused as a whole.
        if context.get_batch(visitor.principal, batch_id).status.has_ended:
            return None
        return see_other(request, visitor, address, "The corrected rows are being put back, and run again.")

    return await long_acts.perform(act, Reply(show, show_reopened, WAIT_SECONDS))


def repaired_message(requeued: Requeued, batch: BatchView) -> str:
    """Say how many rows were put back, and how many failures are left. Pure."""
    jobs, left = requeued.result.jobs, batch.counts.failed
    if not jobs:
        sentences = ["No row was put back: all of them are in their places already."]
    else:
        sentences = [f"{jobs:,} {'row was' if jobs == 1 else 'rows were'} put back, and {_run(jobs)} again."]
    if left:
        sentences.append(f"{left:,} other {'row has' if left == 1 else 'rows have'} failed.")
    if requeued.warning:
        sentences.append(f"{requeued.warning[:1].upper()}{requeued.warning[1:]}.")
    return " ".join(sentences)


def _run(jobs: int) -> str:
    return "runs" if jobs == 1 else "run"


def _repair_act(context: ServerContext, visitor: Visitor, batch_id: str, upload: Upload) -> Act[Requeued]:
    """The act of a file; without rows the file is deleted at once."""
    file_format = upload.fields.get("file_format") or None
    try:
        if not upload.stored.size_bytes:
            is_chosen = upload.filename != DEFAULT_FILENAME
            raise UsageError(f"{upload.filename} is empty; {NO_FILE}" if is_chosen else NO_FILE)
        if file_format is not None and file_format not in FILE_FORMATS:
            raise UsageError(f"there is no format {file_format[:80]!r}; choose one of the list")
    except UsageError:
        open_store(context.settings).delete(upload.stored.location)
        raise
    deadline = upload.fields.get("deadline", "").strip()[:MAX_DEADLINE_CHARACTERS] or None
    rows = CorrectedRows(upload, upload.stored.sha256, file_format, upload.filename)
    return changes.repair_act(context, visitor.principal, batch_id, rows, deadline)


def _parse_input(typed: str) -> dict[str, Any]:
    document = parse_json("the input", typed)
    if not isinstance(document, dict):
        raise UsageError('the input is no JSON object, such as {"text": "a fine day"}')
    return document


def _render(
    request: Request,
    context: ServerContext,
    visitor: Visitor,
    batch_id: str,
    fields: dict[str, str],
    error: BatchmillError | None = None,
) -> Response:
    batch = context.get_batch(visitor.principal, batch_id)
    refusal = None if error is None else refusal_of(error, batch, NOTHING_PUT_BACK)
    values: dict[str, Any] = {
        "batch": batch,
        "code": fields.get("code", "")[:MAX_CODE_CHARACTERS],
        "fields": fields,
        "refusal": refusal,
        "formats": FILE_FORMATS,
        "max_bytes": min(MAX_REPAIR_BYTES, context.settings.max_upload_bytes),
    }
    status = 200 if refusal is None else refusal.status
    return render(request, visitor, "batches/repair.html", status, **values)
