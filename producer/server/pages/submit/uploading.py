"""`POST /submit/files`: a file, or lines of text, become an uploaded file of the tenant."""

from collections.abc import Mapping
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse

from models.errors import BatchmillError, Forbidden, InvalidUpload, UsageError
from producer.server.context import Context, ServerContext
from producer.server.pages.access.uploads import receive_form
from producer.server.pages.access.visitor import PageSubmitter, Visitor
from producer.server.pages.frame.rendering import is_part, see_other
from producer.server.pages.submit import problems, start
from producer.server.pages.submit.start import StartForm
from producer.server.requests.bodies import StreamedBody
from producer.uploads import files, multipart
from producer.uploads.files import FileView, NewFile
from producer.uploads.multipart import Upload
from producer.uploads.storage.store import StoredBytes, open_store

router = APIRouter()

TEXTS_NAME = "pasted-lines.txt"
NOTHING_SENT = "choose a file, or paste at least one line of text"


@router.post("/submit/files")
async def upload_file(request: Request, context: Context, visitor: PageSubmitter, _body: StreamedBody) -> Response:
    """Take a form with a file into the file store; the token is checked before the file is received."""
    fields: dict[str, str] = {}
    try:
        upload = await receive_form(request, context, visitor, context.settings.max_upload_bytes, fields)
        file = await run_in_threadpool(_save, context, visitor, upload)
    except Forbidden:
        raise
    except BatchmillError as error:
        return await run_in_threadpool(_refuse, request, context, visitor, fields, error)
    return see_other(request, visitor, _address(file, fields.get("pipeline")))


def _refuse(
    request: Request, context: ServerContext, visitor: Visitor, fields: Mapping[str, str], error: BatchmillError
) -> Response:
    """Show the form again with the reason; our script, which shows the progress of an upload, gets only that."""
    problem = problems.describe(error)
    if is_part(request):
        return PlainTextResponse(problem.message, problem.status)
    form = StartForm(fields.get("pipeline"), fields.get("texts", ""))
    return start.render_start(request, context, visitor, form, problem)


def _save(context: ServerContext, visitor: Visitor, upload: Upload) -> FileView:
    """Give an upload its row; without one its bytes are deleted."""
    store = open_store(context.settings)
    stored, filename = upload.stored, upload.filename
    try:
        if stored.size_bytes == 0:
            if filename != multipart.DEFAULT_FILENAME:
                raise UsageError(f"{filename} is empty; choose a file with rows")
            store.delete(stored.location)
            stored, filename = _store_texts(context, upload.fields.get("texts", "")), TEXTS_NAME
        new = NewFile(filename, tenant=visitor.principal.home_tenant, stored=stored)
        return files.save_file(context.database, context.settings, new)
    except BaseException:
        store.delete(stored.location)
        raise


def _store_texts(context: ServerContext, texts: str) -> StoredBytes:
    """Store the lines of a text field as a file."""
    if not texts.strip():
        raise UsageError(NOTHING_SENT)
    try:
        content = texts.replace("\r\n", "\n").encode()
    except UnicodeEncodeError:
        raise InvalidUpload("the text has half a surrogate pair, which no database stores; mend its encoding") from None
    with open_store(context.settings).create() as writer:
        writer.write(content)
        return writer.commit()


def _address(file: FileView, pipeline: str | None) -> str:
    query = f"?{urlencode({'pipeline': pipeline[:200]})}" if pipeline else ""
    return f"/submit/files/{file.id}{query}"
