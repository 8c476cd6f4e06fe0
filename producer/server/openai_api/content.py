"""The bytes of a file: an upload's from the file store, results from SQL on demand; whole, or a part of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

from anyio import to_thread
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from models.errors import MissingSource, NotFound
from producer.batches import views
from producer.results.responses.content import ResultsContent
from producer.server.context import ServerContext
from producer.server.downloads import send_blocks
from producer.server.errors import error_body
from producer.server.openai_api.ranges import UnsatisfiableRange, has_same_etag, parse_range, wants_part
from producer.server.requests.head_requests import is_head
from producer.uploads import result_files
from producer.uploads.files import PURPOSE_ERRORS, FileView
from producer.uploads.storage.store import open_store

BLOCK_BYTES = 2**18
MAX_QUICK_LINES = 1_000  # of a results file that is read for its size alone
MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Content:
    """What a file has, before any of it is read.

    size_bytes: None = not known yet; `measure` finds it
    measure: raises NotFound if the bytes are gone or not whole
    read: the bytes from a place on, and before another or to the end
    is_quick: whether `measure` takes no longer than other requests
    """

    etag: str
    size_bytes: int | None
    measure: Callable[[], int]
    read: Callable[[int, int | None], Iterator[bytes]]
    is_quick: bool = True

    def quick_size(self) -> int | None:
        """The size; None for results of many lines that nobody has read to the end yet."""
        return self.measure() if self.size_bytes is None and self.is_quick else self.size_bytes


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


async def respond(context: ServerContext, file: FileView, request: Request) -> Response:
    """The response to GET or HEAD."""
    content = await run_in_threadpool(open_content, context, file)
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
    if is_head(request):
        return await run_in_threadpool(_respond_to_head, content, headers)
    start, end, status, size = 0, None, 200, content.size_bytes
    if wants_part(request.headers, etag):  # RFC 9110 knows ranges of GET alone
        if size is None:
            size = await to_thread.run_sync(content.measure, limiter=context.measuring_thread)
        try:
            part = parse_range(request.headers["range"], size)
        except UnsatisfiableRange:
            body = error_body(416, f"the file has {size:,} bytes, and the range begins behind them", "invalid_range")
            return JSONResponse(body, 416, {**headers, "content-range": f"bytes */{size}"})
        start, end, status = part.start, part.end, 206
        headers |= {"content-range": part.content_range, "content-length": str(end - start)}
    elif size is not None:
        headers["content-length"] = str(size)
    blocks = content.read(start, end)
    return StreamingResponse(send_blocks(blocks, context.download_threads), status, headers, MEDIA_TYPE)


def _respond_to_head(content: Content, headers: dict[str, str]) -> Response:
    """The headers of the whole file, with its length if that takes no long read."""
    size = content.measure() if content.is_quick else content.size_bytes
    if size is None:  # a length of 0 would be wrong
        return StreamingResponse(iter(()), headers=headers, media_type=MEDIA_TYPE)
    return Response(headers={**headers, "content-length": str(size)}, media_type=MEDIA_TYPE)


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
        size = 0
        for block in results.read(start, end):
            size += len(block)
            yield block
        if start == 0 and end is None:
            remember(size)

    def measure() -> int:
        return remember(results.measure()) if known is None else known

    return Content(results.etag, known, measure, read, is_quick=results.lines <= MAX_QUICK_LINES)


def _read_stream(stream: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with stream:
        stream.seek(start)
        while start < end:
            block = stream.read(min(BLOCK_BYTES, end - start))
            if not block:
                raise MissingSource("the file has lost its last bytes; upload it again")
            start += len(block)
            yield block
