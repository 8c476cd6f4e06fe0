"""`/submit/files`: the uploaded files of a tenant, what was made of them, and deleting one."""

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from models.errors import NotFound
from producer.server.context import Context, ServerContext
from producer.server.pages.access.visitor import ActionForm, PageReader, PageSubmitter, Visitor
from producer.server.pages.frame.rendering import confirm, render, see_other
from producer.uploads import file_uses, files
from producer.uploads.file_uses import UNUSED
from producer.uploads.files import PURPOSE_BATCH, FileFilter, FileView

router = APIRouter()

PAGE_FILES = 50


@router.get("/submit/files")
def show_files(request: Request, context: Context, visitor: PageReader, after: str | None = None) -> Response:
    """Show a page of the list, the newest first."""
    file_filter = FileFilter(visitor.principal.tenant, PURPOSE_BATCH, after or None)
    page = files.list_files(context.database, PAGE_FILES, file_filter)
    older = f"?{urlencode({'after': page.files[-1].id})}" if page.has_more else None
    uses = file_uses.find_uses(context.database, [file.id for file in page.files])
    values: dict[str, Any] = {"files": page.files, "uses": uses, "unused": UNUSED, "older": older}
    return render(request, visitor, "submit/files.html", is_first=after is None, **values)


@router.get("/submit/files/{file_id}/delete")
def confirm_delete(request: Request, context: Context, visitor: PageSubmitter, file_id: str) -> Response:
    """Ask whether a file shall be deleted."""
    file = _find(context, visitor, file_id)
    use = file_uses.find_uses(context.database, [file.id]).get(file.id, UNUSED)
    return confirm(request, visitor, "submit/_delete.html", "Delete a file", file=file, use=use)


@router.post("/submit/files/{file_id}/delete")
def delete_file(
    request: Request, context: Context, visitor: PageSubmitter, _form: ActionForm, file_id: str
) -> Response:
    """Delete a file; a batch that has still to read it does so."""
    file = _find(context, visitor, file_id)
    files.delete_file(context.database, file.id, visitor.principal.tenant)
    return see_other(request, visitor, "/submit/files", f"{file.filename} was deleted.")


def _find(context: ServerContext, visitor: Visitor, file_id: str) -> FileView:
    file = files.get_file(context.database, file_id, visitor.principal.tenant)
    if file.purpose != PURPOSE_BATCH or file.batch_id is not None:
        raise NotFound(f"{file.id} has the results of a batch; delete the batch instead")
    return file
