"""Somebody who has a page open: the events that are still to be sent to them, at most one for each part."""

import asyncio
from collections.abc import Iterable

from producer.server.following import event_stream


class PageFollower:
    """An open page.

    since: milliseconds since 1970; the page shows all that was rendered before
    rows: ids of the batches in its list
    """

    def __init__(self, since: int, rows: Iterable[str] = ()) -> None:
        self.since = since
        self.rows = frozenset(rows)
        self.is_closing = False
        self._pending: dict[str, bytes] = {}
        self._event = asyncio.Event()

    def put(self, key: str, event: bytes) -> None:
        """Send an event, in place of one with the same key that has not been sent."""
        self._pending[key] = event
        self._event.set()

    def close(self) -> None:
        """Say that nothing follows, after what is still to be sent."""
        self.is_closing = True
        self._event.set()

    async def take(self, timeout: float) -> bytes:
        """Wait for events and return them; none after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return b""
        self._event.clear()
        events = b"".join(self._pending.values())
        self._pending.clear()
        return events


def part_event(name: str, html: str, moment: int) -> bytes:
    """The event that fills the element of a part."""
    return event_stream.event("part", {"name": name, "html": html, "at": moment})
