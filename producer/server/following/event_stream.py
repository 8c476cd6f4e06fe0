"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import anyio
import structlog
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from models.documents import to_json
from models.errors import BatchmillError, UsageError
from producer.results.arguments import MAX_SEQ
from producer.results.json_lines import JsonResult
from producer.results.result_row import escape_line_separators
from producer.server.downloads import IncompleteResponse

MEDIA_TYPE = "text/event-stream"
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}  # the second is for nginx, which would collect them
RETRY_MILLISECONDS = 2_000  # after which a client that lost its connection comes again
HEARTBEAT = b": the connection is alive\n\n"

log = structlog.get_logger(__name__)


class StreamResponse(StreamingResponse):
    """A stream whose follower is forgotten at its end, also if the client went away while it was being sent to.

    permit: held while it is open; what it raises at its begin is the answer
    """

    def __init__(self, parts: AsyncGenerator[bytes], media_type: str, permit: AbstractContextManager[None]) -> None:
        super().__init__(parts, headers=HEADERS, media_type=media_type)
        self._parts, self._permit = parts, permit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        with self._permit:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send all parts; without a database the stream breaks off, and its client comes again."""
        try:
            await super().stream_response(send)
        except BatchmillError as error:
            log.warning("following.stream_failed", error_type=error.code)
            raise IncompleteResponse(error.code) from None
        finally:
            with anyio.CancelScope(shield=True):
                await self._parts.aclose()


def begin() -> bytes:
    """The first bytes of a stream, which say when a client should come again."""
    return f"retry: {RETRY_MILLISECONDS}\n\n".encode()


def event(name: str, document: Any, event_id: int | None = None) -> bytes:
    """One event with a JSON document."""
    id_line = "" if event_id is None else f"id: {event_id}\n"
    return f"{id_line}event: {name}\ndata: {escape_line_separators(to_json(document))}\n\n".encode()


def result_events(rows: Sequence[JsonResult]) -> bytes:
    """An event for each result; its id is `seq`, from which the client goes on."""
    events = "".join(f"id: {row.seq}\nevent: result\ndata: {row.text}\n\n" for row in rows)
    return escape_line_separators(events).encode()


def parse_last_id(header: str | None, after: int) -> int:
    """The cursor of a client that comes again with `Last-Event-ID`, else `after`; raises UsageError."""
    if not header:
        return after
    if not (header.isascii() and header.isdigit() and len(header) <= 19 and int(header) <= MAX_SEQ):
        message = "Last-Event-ID is the id of an event of this stream, which is a number; leave it out"
        raise UsageError(message, param="last-event-id")
    return int(header)
