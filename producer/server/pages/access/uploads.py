"""Forms with a file: the token, which precedes the file, is checked before anything of the file is received."""

from collections.abc import Mapping

from fastapi import Request

from producer.server.context import ServerContext
from producer.server.pages.access import forgery
from producer.server.pages.access.forgery import CSRF_FIELD
from producer.server.pages.access.visitor import Visitor
from producer.uploads import multipart, request_body
from producer.uploads.multipart import MultipartReceiver, Upload
from producer.uploads.storage.store import open_store


async def receive_form(
    request: Request, context: ServerContext, visitor: Visitor, max_bytes: int, fields: dict[str, str]
) -> Upload:
    """Take a form with a file into the file store; the caller deletes the file or gives it a row.

    max_bytes: of the file
    fields: gets the fields before the file, also if the form is refused then

    The request's stream must be open: see `requests/bodies.py`. Raises ForgedAction, and what
    `request_body.receive` raises.
    """
    is_checked = forgery.has_token_header(request, visitor.csrf_secret)

    def check(before_file: Mapping[str, str]) -> None:
        fields.update(before_file)
        if not is_checked:
            forgery.check_token(visitor.csrf_secret, before_file.get(CSRF_FIELD))

    def open_receiver() -> MultipartReceiver:
        return MultipartReceiver(open_store(context.settings), request.headers.get("content-type"), max_bytes, check)

    multipart.check_length(request.headers.get("content-length"), max_bytes)
    upload = await request_body.receive(open_receiver, request.stream(), request.headers.get("content-encoding"))
    fields.update(upload.fields)
    return upload
