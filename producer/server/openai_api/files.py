"""`/v1/files`: upload, list, show, read and delete."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from producer.batches import views
from producer.batches.views import BatchView
from producer.readers.storable import is_storable
from producer.results.responses.content import etag_of
from producer.server.access import Reader, Submitter
from producer.server.context import Context, ServerContext
from producer.server.openai_api import content, objects
from producer.server.requests.bodies import StreamedBody
from producer.tenants.principal import Principal
from producer.uploads import files, multipart, request_body
from producer.uploads.files import PURPOSE_BATCH, PURPOSE_ERRORS, FileFilter, FileView, NewFile
from producer.uploads.intake.openai_batches import invalid
from producer.uploads.multipart import MultipartReceiver, Upload
from producer.uploads.storage.store import open_store

router = APIRouter(prefix="/files", tags=["OpenAI files"])

MAX_PAGE_FILES = files.MAX_PAGE_FILES


UPLOAD_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["purpose", "file"],
                "properties": {
                    "purpose": {"type": "string", "enum": ["batch"]},
                    "file": {"type": "string", "format": "binary", "description": "Lines of OpenAI's batch format."},
                },
                "propertyNames": {"minLength": 1, "maxLength": 100},
            }
        }
    },
}


@router.post("", openapi_extra={"requestBody": UPLOAD_BODY})
async def upload_file(request: Request, context: Context, principal: Submitter, _body: StreamedBody) -> dict[str, Any]:
    """Upload a file: `multipart/form-data` with `purpose` (batch) and `file`, optionally `expires_after`."""
    store, max_bytes = open_store(context.settings), context.settings.max_upload_bytes
    multipart.check_length(request.headers.get("content-length"), max_bytes)

    def open_receiver() -> MultipartReceiver:
        return MultipartReceiver(store, request.headers.get("content-type"), max_bytes, _check_purpose)

    upload = await request_body.receive(open_receiver, request.stream(), request.headers.get("content-encoding"))
    return await run_in_threadpool(_save, context, principal, upload)


@router.get("")
def list_files(
    context: Context,
    principal: Reader,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_FILES)] = MAX_PAGE_FILES,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> dict[str, Any]:
    """List the files that were uploaded, and those of ended batches."""
    if purpose is not None and not is_storable(purpose):
        raise invalid("purpose", "the purpose has a NUL character or half a surrogate pair, which no file has")
    file_filter = FileFilter(principal.tenant, purpose or None, after or None, oldest_first=order == "asc")
    page = files.list_files(context.database, limit, file_filter)
    batches = views.find_batches(
        context.database, (file.batch_id for file in page.files if file.batch_id and file.etag)
    )
    shown = [objects.file_object(file, _known_size(file, batches.get(file.batch_id or ""))) for file in page.files]
    return objects.list_object(shown, has_more=page.has_more)


@router.get("/{file_id}")
def get_file(file_id: str, context: Context, principal: Reader) -> dict[str, Any]:
    """Show one file, with its size; that of a large file of results is null until somebody has read the file."""
    file = files.get_file(context.database, file_id, principal.tenant)
    return objects.file_object(file, content.open_content(context, file).quick_size())


@router.delete("/{file_id}")
def delete_file(file_id: str, context: Context, principal: Submitter) -> dict[str, Any]:
    """Delete a file; a batch that has still to read it does so."""
    files.delete_file(context.database, file_id, principal.tenant)
    return {"id": file_id, "object": "file", "deleted": True}


@router.get("/{file_id}/content", response_class=Response)
async def get_content(file_id: str, request: Request, context: Context, principal: Reader) -> Response:
    """Read a file, or the part that `Range` names."""
    file = await run_in_threadpool(files.get_file, context.database, file_id, principal.tenant)
    return await content.respond(context, file, request)


def _known_size(file: FileView, batch: BatchView | None) -> int | None:
    """The size as far as it is known without reading results; a batch that ran again has others."""
    if file.batch_id is None:
        return file.size_bytes
    is_current = batch is not None and etag_of(batch, has_errors=file.purpose == PURPOSE_ERRORS) == file.etag
    return file.size_bytes if is_current else None


def _check_purpose(fields: Mapping[str, str]) -> None:
    """Raise UsageError for another purpose; before the file, it may not be known yet."""
    if fields.get("purpose", PURPOSE_BATCH) != PURPOSE_BATCH:
        raise invalid("purpose", f"the purpose must be {PURPOSE_BATCH}, the only one that this server has")


def _save(context: ServerContext, principal: Principal, upload: Upload) -> dict[str, Any]:
    """Give an upload its row; without one its bytes are deleted."""
    try:
        _check_purpose({"purpose": "", **upload.fields})
        seconds = files.parse_expiry(
            upload.fields.get("expires_after[anchor]"), upload.fields.get("expires_after[seconds]")
        )
        new = NewFile(upload.filename, PURPOSE_BATCH, principal.home_tenant, upload.stored, None, seconds)
        file = files.save_file(context.database, context.settings, new)
    except BaseException:
        open_store(context.settings).delete(upload.stored.location)
        raise
    return objects.file_object(file, file.size_bytes)
