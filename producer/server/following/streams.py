"""The streams of followers: results as they land, progress, and the end of the batch."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

import anyio
from anyio import to_thread

from models.db import Database
from models.errors import NotFound, Unauthorized, Unreachable
from models.states import JobOutcome
from producer.batches import views
from producer.batches.changes import BatchState
from producer.batches.views import BatchView
from producer.results import pages
from producer.results.json_lines import JsonResult
from producer.results.result_row import escape_line_separators
from producer.server.downloads import IncompleteResponse
from producer.server.errors import error_body
from producer.server.following import event_stream
from producer.server.following.watch import BatchFollower, BatchWatch
from producer.server.native import shown

HEARTBEAT_SECONDS = 15.0  # proxies close what is silent for 30 or 60
# A follower that reads slowly holds one page, as bytes; its rows exist only in one of the few threads that read pages.
PAGE_ROWS, PAGE_CHARACTERS = 500, 256 * 1024


@dataclass(frozen=True, slots=True)
class Follow:
    """What somebody follows.

    after: only results after this `seq`
    statuses: only results with one of these; empty = all
    with_results: False = only the progress and the end
    """

    batch_id: str
    tenant: str | None
    after: int = 0
    statuses: tuple[JobOutcome, ...] = ()
    with_results: bool = True


async def stream_events(database: Database, watch: BatchWatch, follow: Follow) -> AsyncGenerator[bytes]:
    """Yield server-sent events: `result`, `progress`, and at last `end`, or `error` if the batch is gone."""
    yield event_stream.begin()
    cursor = follow.after
    async with watch.follow(follow.batch_id) as follower:
        while not follower.is_closing():
            if (state := follower.state) is None:
                message = f"{follow.batch_id} was deleted"
                yield event_stream.event("error", error_body(404, message, NotFound.code))
                return
            # Before the results: once a batch has ended, all its results are readable.
            ended = await _read_ended(database, watch, follow) if state.status.has_ended else None
            has_more = follow.with_results
            while has_more and not follower.is_closing():
                page = await _read_page(database, watch, follow, cursor, event_stream.result_events)
                cursor, has_more = page.cursor, page.has_more
                if page.content:
                    yield page.content
                del page  # many followers wait for long
            if follower.is_closing():
                return
            yield event_stream.event("progress", state.as_dict(), cursor)
            if ended is not None:
                yield event_stream.event("end", shown.batch_object(ended, follow.tenant), cursor)
                return
            while not await follower.wait_for_change(HEARTBEAT_SECONDS):
                yield event_stream.HEARTBEAT


async def stream_lines(database: Database, watch: BatchWatch, follow: Follow) -> AsyncGenerator[bytes]:
    """Yield each result as a line of JSON, and an empty line now and then; raises IncompleteResponse before the end."""
    cursor = follow.after
    async with watch.follow(follow.batch_id) as follower:
        while (state := follower.state) is not None and not follower.is_closing():
            ended = await _read_ended(database, watch, follow) if state.status.has_ended else None
            has_more = True
            while has_more and not follower.is_closing():
                page = await _read_page(database, watch, follow, cursor, _lines)
                cursor, has_more = page.cursor, page.has_more
                if page.content:
                    yield page.content
                del page  # many followers wait for long
            if ended is not None and not follower.is_closing():
                return
            while not await follower.wait_for_change(HEARTBEAT_SECONDS):
                yield b"\n"
    raise IncompleteResponse(NotFound.code if state is None else "server_stopping")


async def stream_changes(watch: BatchWatch, tenant: str | None) -> AsyncGenerator[bytes]:
    """Yield an event `batch` for each batch that has not ended, and then for each change of any batch."""
    yield event_stream.begin()
    async with watch.follow_all(tenant) as follower:
        while not follower.is_closing():
            changes: list[BatchState] = await follower.next_changes(HEARTBEAT_SECONDS)
            yield b"".join(event_stream.event("batch", state.as_dict()) for state in changes) or event_stream.HEARTBEAT


async def while_allowed(
    parts: AsyncGenerator[bytes], is_allowed: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes]:
    """Yield the parts of a stream as long as its key is valid, which each heartbeat checks; raises IncompleteResponse.

    is_allowed: may raise Unreachable, which ends nothing
    """
    next_check = anyio.current_time() + HEARTBEAT_SECONDS
    async with aclosing(parts):
        async for part in parts:
            if anyio.current_time() >= next_check:
                next_check = anyio.current_time() + HEARTBEAT_SECONDS
                with suppress(Unreachable):
                    if not await is_allowed():
                        raise IncompleteResponse(Unauthorized.code)
            yield part


async def wait_until(follower: BatchFollower, timeout: float, after_status: str | None) -> None:
    """Wait until a batch has ended or is gone, or, if `after_status` is given, has another status."""
    with anyio.move_on_after(timeout):
        while (state := follower.state) is not None and not follower.is_closing():
            if state.status.has_ended or after_status not in (None, state.status.value):
                return
            await follower.wait_for_change(timeout)


async def _read_ended(database: Database, watch: BatchWatch, follow: Follow) -> BatchView | None:
    """Read a batch that has ended; None if it was retried meanwhile, or is gone."""
    try:
        batch = await to_thread.run_sync(
            views.get_batch, database, follow.batch_id, follow.tenant, limiter=watch.page_threads
        )
    except NotFound:
        return None
    return batch if batch.status.has_ended else None


@dataclass(frozen=True, slots=True)
class _Page:
    """The next results of a stream, as they are sent.

    cursor: of the last row that was read, which may have been left out
    """

    content: bytes
    cursor: int
    has_more: bool


async def _read_page(
    database: Database, watch: BatchWatch, follow: Follow, cursor: int, write: Callable[[Sequence[JsonResult]], bytes]
) -> _Page:
    """Read the next results, and write those that are to be sent."""

    def read() -> _Page:
        limits, hides_folders = (PAGE_ROWS, (), PAGE_CHARACTERS), follow.tenant is not None
        rows, has_more = pages.fetch_page(database, follow.batch_id, cursor, *limits, hides_folders=hides_folders)
        # Not filtered in SQL: the cursor must advance over the other rows, or each change would read them again.
        selected = [row for row in rows if not follow.statuses or row.status in follow.statuses]
        return _Page(write(selected), rows[-1].seq if rows else cursor, has_more)

    return await to_thread.run_sync(read, limiter=watch.page_threads)


def _lines(rows: Sequence[JsonResult]) -> bytes:
    return escape_line_separators("".join(f"{row.text}\n" for row in rows)).encode()
