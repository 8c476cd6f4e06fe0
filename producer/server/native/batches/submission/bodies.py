"""Bodies of requests: their types, and how they are received."""

from fastapi import HTTPException, Request

from models.errors import SourceTooLarge
from producer.server.context import ServerContext
from producer.server.native import responses
from producer.server.requests.bodies import receiving, receiving_document
from producer.uploads import multipart, request_body
from producer.uploads.multipart import BodyReceiver, MultipartReceiver, Upload
from producer.uploads.storage.store import open_store

MAX_JSON_BYTES = 4 * 2**20  # parsed at once; more rows go as lines, which are streamed
FORM = "multipart/form-data"
FORMAT_BY_TYPE = {
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "text/plain": "text",
    "application/vnd.apache.parquet": "parquet",
    "application/octet-stream": None,  # file_format says it
}


def content_type(request: Request) -> str:
    """The type of the body without its parameters; raises HTTPException for one that no route takes."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in (responses.JSON, FORM) or kind in FORMAT_BY_TYPE:
        return kind
    kinds = ", ".join((responses.JSON, *FORMAT_BY_TYPE, FORM))
    raise HTTPException(415, f"the Content-Type is none that is taken; send {kinds}")


async def read_body(request: Request) -> bytes:
    """The body, which is parsed at once; raises SourceTooLarge or UnsupportedEncoding."""
    request_body.check_encoding(request.headers.get("content-encoding"))
    parts, length = [], 0
    with receiving_document(request):
        async for part in request.stream():
            length += len(part)
            if length > MAX_JSON_BYTES:
                raise SourceTooLarge(
                    f"the body has more than {MAX_JSON_BYTES:,} bytes; send the rows as application/x-ndjson, which is "
                    "read as a stream"
                )
            parts.append(part)
    return b"".join(parts)


async def receive(request: Request, context: ServerContext) -> Upload:
    """Take the body, or the file in a form, into the file store; the caller deletes it or gives it a row."""
    store, max_bytes = open_store(context.settings), context.settings.max_upload_bytes

    def open_receiver() -> BodyReceiver | MultipartReceiver:
        if content_type(request) == FORM:
            return MultipartReceiver(store, request.headers.get("content-type"), max_bytes)
        return BodyReceiver(store, max_bytes)

    multipart.check_length(request.headers.get("content-length"), max_bytes)
    with receiving(request):  # not longer, because a request may then wait until its rows were read
        return await request_body.receive(open_receiver, request.stream(), request.headers.get("content-encoding"))
