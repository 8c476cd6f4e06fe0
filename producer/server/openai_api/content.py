"""The bytes of a file: an upload's from the file store, results from SQL on demand; whole, or a part of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from models.errors import MissingSource, NotFound
from producer.batches import views
from producer.results.responses.content import ResultsContent
from producer.server.context import ServerContext
from producer.server.downloads import send_blocks
from producer.server.errors import error_body
from producer.server.openai_api.ranges import UnsatisfiableRange, has_same_etag, parse_range, wants_part
from producer.uploads import result_files
from producer.uploads.files import PURPOSE_ERRORS, FileView
from producer.uploads.store import open_store

BLOCK_BYTES = 2**18
MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Content:
    """What a file has, before any of it is read.

    size_bytes: None = not known yet; `measure` finds it
    measure: raises NotFound if the bytes are gone or not whole
    read: the bytes from a place on, and before another or to the end
    """

    etag: str
    size_bytes: int | None
    measure: Callable[[], int]
    read: Callable[[int, int | None], Iterator[bytes]]

    def known_size(self) -> int:
        """The size, for which results may have to be read."""
        return self.measure() if self.size_bytes is None else self.size_bytes


def open_content(context: ServerContext, file: FileView) -> Content:
    """The content of a file; raises NotFound if its batch or its bytes are gone, and FileStoreUnavailable."""
    if file.batch_id is not None:
        return _results_content(context, file, file.batch_id)
    location = file.location
    if location is None:
        raise NotFound(f"{file.id} has no bytes any more; upload it again")
    store, size = open_store(context.settings), file.size_bytes or 0

    def read(start: int, end: int | None) -> Iterator[bytes]:
        try:
            stream = store.open(location)
        except MissingSource as error:
            raise NotFound(str(error)) from None
        return _read_stream(stream, start, size if end is None else end)

    def measure() -> int:
        try:
            store.check_whole(location, size)
        except MissingSource as error:
            raise NotFound(str(error)) from None
        return size

    return Content(file.sha256 or file.id, size, measure, read)


def respond(context: ServerContext, file: FileView, request: Request) -> Response:
    """The response to GET or HEAD."""
    content = open_content(context, file)
    etag = f'"{content.etag}"'
    headers = {
        "etag": etag,
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
        "content-disposition": content_disposition(file.filename),
    }
    if has_same_etag(request.headers, etag):
        return Response(status_code=304, headers=headers)
    start, end, status = 0, None, 200
    if request.method == "GET" and wants_part(request.headers, etag):  # RFC 9110 knows ranges of GET alone
        size = content.known_size()
        try:
            part = parse_range(request.headers["range"], size)
        except UnsatisfiableRange:
            body = error_body(416, f"the file has {size:,} bytes, and the range begins behind them", "invalid_range")
            return JSONResponse(body, 416, {**headers, "content-range": f"bytes */{size}"})
        start, end, status = part.start, part.end, 206
        headers |= {"content-range": part.content_range, "content-length": str(end - start)}
    elif (known := content.measure() if request.method == "HEAD" else content.size_bytes) is not None:
        headers["content-length"] = str(known)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=MEDIA_TYPE)
    blocks = content.read(start, end)
    return StreamingResponse(send_blocks(blocks, context.download_threads), status, headers, MEDIA_TYPE)


def content_disposition(filename: str) -> str:
    """The header by which a browser saves a file; a name that is not plain ASCII is given by RFC 6266 as well."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in filename)
    extended = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='', errors='replace')}"
    return f'attachment; filename="{plain}"{extended}'


def _results_content(context: ServerContext, file: FileView, batch_id: str) -> Content:
    batch = views.get_batch(context.database, batch_id)
    if not batch.status.has_ended:
        raise NotFound(f"{batch_id} has not ended, so its files are not there yet")
    results = ResultsContent.open(context.database, batch, has_errors=file.purpose == PURPOSE_ERRORS)
    known = file.size_bytes if file.etag == results.etag else None

    def remember(size_bytes: int) -> int:
        if known is None:
            result_files.record_size(context.database, file.id, results.etag, size_bytes)
        return size_bytes

    def read(start: int, end: int | None) -> Iterator[bytes]:
        yield from results.read(start, end)
        if start == 0 and end is None:
            remember(results.measure())

    return Content(results.etag, known, lambda: remember(results.measure()) if known is None else known, read)


def _read_stream(stream: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with stream:
        stream.seek(start)
        while start < end:
            block = stream.read(min(BLOCK_BYTES, end - start))
            if not block:
                raise MissingSource("the file has lost its last bytes; upload it again")
            start += len(block)
            yield block
