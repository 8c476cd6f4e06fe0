"""All channels of a server: one for each page that somebody has open, and for each audience of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from anyio import CapacityLimiter

from producer.server.context import ServerContext
from producer.server.pages.live.batch_rows import BatchRowsChannel
from producer.server.pages.live.changes import changes_of_all, changes_of_batch, changes_of_statuses, no_changes
from producer.server.pages.live.channel import Changes, Channel, ChannelKey
from producer.server.pages.live.followers import PageFollower
from producer.server.pages.live.page_parts import PAGES

MAX_THREADS = 2  # that render parts at once
CLOCK_PAGES = {"pulse", "workers", "usage"}  # which no change of a batch announces
STATUS_PAGES = {"schedules", "schedule", "run", "pipelines", "pipeline"}  # which change when a batch begins and ends


class LiveHub:
    """Opens a channel for the first follower of a page; the channel ends with its last one."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._threads = CapacityLimiter(MAX_THREADS)
        self._channels: dict[ChannelKey, Channel] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def follow(self, key: ChannelKey, follower: PageFollower) -> AsyncIterator[None]:
        """Send the events of a page to a follower while the block runs."""
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = self._open(key)
            async with channel.join(follower):
                self._start(key, channel)
                yield
        else:
            async with channel.join(follower):
                yield

    def _open(self, key: ChannelKey) -> Channel:
        kind = BatchRowsChannel if key.kind == "batches" else Channel
        page, changes = PAGES[key.kind], self._changes(key)
        return kind(self._context, key, page, changes, self._threads, self._count_channels)

    def _count_channels(self) -> int:
        """How many channels render parts."""
        return sum(bool(PAGES[key.kind].parts) for key in self._channels)

    def _changes(self, key: ChannelKey) -> AbstractAsyncContextManager[Changes]:
        watch, tenant = self._context.watch, key.audience.principal.tenant
        if key.kind == "batch":
            return changes_of_batch(watch, str(key.subject))
        if key.kind in CLOCK_PAGES:
            return no_changes(self._context.stopping)
        if key.kind in STATUS_PAGES:
            return changes_of_statuses(watch, tenant)
        return changes_of_all(watch, tenant)

    def _start(self, key: ChannelKey, channel: Channel) -> None:
        task = asyncio.create_task(self._run(key, channel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, key: ChannelKey, channel: Channel) -> None:
        try:
            await channel.run()
        finally:  # nothing is awaited since the channel saw that it has no followers
            if self._channels.get(key) is channel:
                del self._channels[key]
