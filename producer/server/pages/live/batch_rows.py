"""The channel of the list of batches: it renders the rows of batches that changed and that a follower's page shows."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from anyio import to_thread

from producer.batches import views
from producer.batches.changes import BatchState, find_open_or_ended_since
from producer.server.pages.frame.formats import now_milliseconds
from producer.server.pages.live import parts
from producer.server.pages.live.channel import Channel
from producer.server.pages.live.followers import PageFollower, part_event

TEMPLATE = "batches/_rows.html"
SECONDS = 2.0  # between two renderings
MAX_ROWS = 50  # rendered at once; the others follow
MAX_FOLLOWER_ROWS = 200  # of one page
MAX_CLOCK_SKEW = timedelta(minutes=1)  # between the server and its database


class BatchRowsChannel(Channel):
    """Sends each row to the followers whose page has it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._waiting: dict[str, None] = {}  # ids of batches that changed, in order
        self._joined: list[PageFollower] = []  # whose rows may have changed before they joined
        self._due_at = 0.0

    @asynccontextmanager
    async def join(self, follower: PageFollower) -> AsyncIterator[None]:
        """Send rows to a follower while the block runs, also those that changed after its page was rendered."""
        self._joined.append(follower)
        async with super().join(follower):
            yield

    async def show_states(self, states: tuple[BatchState, ...]) -> None:
        """Render the rows of batches that changed, at most 50 in two seconds."""
        self._waiting |= dict.fromkeys(state.id for state in states)
        await self._add_changed_before_joining()
        if time.monotonic() < self._due_at:
            return
        shown = frozenset().union(*(follower.rows for follower in self.followers))
        self._waiting = {batch_id: None for batch_id in self._waiting if batch_id in shown}
        if not self._waiting:
            return
        self._due_at = time.monotonic() + SECONDS
        ids = list(self._waiting)[:MAX_ROWS]
        moment = now_milliseconds()
        rows = await to_thread.run_sync(self._render_rows, ids, limiter=self._threads)
        for batch_id in ids:
            self._waiting.pop(batch_id, None)
        for batch_id, html in rows.items():
            self._send_row(batch_id, part_event(f"row-{batch_id}", html, moment))

    async def _add_changed_before_joining(self) -> None:
        if joined := tuple(self._joined):
            changed = await to_thread.run_sync(self._find_changed, joined, limiter=self._threads)
            self._waiting |= dict.fromkeys(changed)
            del self._joined[: len(joined)]

    def _send_row(self, batch_id: str, event: bytes) -> None:
        for follower in self.followers:
            if batch_id in follower.rows:
                follower.put(batch_id, event)

    def _find_changed(self, joined: Sequence[PageFollower]) -> set[str]:
        """Find the rows that may have changed since their pages were rendered: of an ended batch nobody tells later."""
        since = min([now_milliseconds(), *(follower.since for follower in joined)])  # a client may name any time
        rendered_at = datetime.fromtimestamp(since / 1000, UTC)
        rows = frozenset().union(*(follower.rows for follower in joined))
        return find_open_or_ended_since(self._context.database, rows, rendered_at - MAX_CLOCK_SKEW)

    def _render_rows(self, ids: list[str]) -> dict[str, str]:
        audience = self.key.audience
        found = views.find_batches(self._context.database, ids)
        return {
            batch_id: parts.render_part(
                TEMPLATE, audience, self.key.path, {"batches": [batch], "shows_tenants": audience.is_operator}
            )
            for batch_id, batch in found.items()
            if audience.principal.may_see(batch.tenant)
        }
