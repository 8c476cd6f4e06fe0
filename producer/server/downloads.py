"""Downloads of any size: blocks are made in a few threads while the client reads, and one of them is in memory."""

import re
from collections.abc import AsyncIterator, Iterator
from itertools import chain

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi.responses import StreamingResponse

from models.errors import BatchmillError

MAX_THREADS = 8  # of downloads, so that many of them leave threads to other requests
UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")

log = structlog.get_logger(__name__)


class IncompleteResponse(Exception):
    """Ends a response that has begun without its last chunk, so that the client sees that it is not whole."""


def new_threads() -> CapacityLimiter:
    """The threads that all downloads of a server share."""
    return CapacityLimiter(MAX_THREADS)


def download(
    blocks: Iterator[bytes], threads: CapacityLimiter, media_type: str, file_name: str | None = None
) -> StreamingResponse:
    """The response with these blocks; raises what the first one raises, which no response can take back later.

    file_name: under which a browser saves it; None = it is shown
    """
    begun = [block for block in (next(blocks, None),) if block is not None]
    headers = {"cache-control": "no-store"}
    if file_name is not None:
        headers["content-disposition"] = f'attachment; filename="{UNSAFE_IN_NAMES.sub("_", file_name)}"'
    return StreamingResponse(send_blocks(chain(begun, blocks), threads), headers=headers, media_type=media_type)


async def send_blocks(blocks: Iterator[bytes], threads: CapacityLimiter) -> AsyncIterator[bytes]:
    """The blocks, each made in a thread; raises IncompleteResponse."""
    while True:
        try:
            block = await to_thread.run_sync(next, blocks, None, limiter=threads)
        except Exception as error:
            # The error may quote an input, and the server logs what ends a response.
            code = error.code if isinstance(error, BatchmillError) else type(error).__name__
            log.warning("request.download_failed", error_type=code)
            raise IncompleteResponse(code) from None
        if block is None:
            return
        yield block
