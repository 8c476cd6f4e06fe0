"""What a channel waits for: changes of one batch, or of any batch of a tenant."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from models.states import BatchStatus
from producer.batches.changes import BatchState
from producer.server.following import event_stream
from producer.server.following.watch import BatchFollower, BatchWatch, ListFollower
from producer.server.pages.live.channel import STATE, Change, Changes


class _ChangesOfBatch:
    def __init__(self, follower: BatchFollower) -> None:
        self._follower = follower
        self._status = follower.state.status if follower.state else None
        self._is_first = True

    async def next(self, timeout: float) -> Change:
        """Wait for a change of the batch."""
        has_changed = await self._follower.wait_for_change(timeout)
        state = self._follower.state
        if self._follower.is_closing() or state is None:
            return Change(is_closing=self._follower.is_closing(), is_gone=state is None)
        is_urgent, self._status = state.status != self._status, state.status
        is_news, self._is_first = has_changed or self._is_first, False
        events = ((STATE, event_stream.event("state", state.as_dict())),) if is_news else ()
        return Change(has_changed, is_urgent=is_urgent, events=events, states=(state,))


class _ChangesOfAll:
    """The states that come first are those of all open batches, which every page shows already."""

    def __init__(self, follower: ListFollower) -> None:
        self._follower = follower
        self._known: set[str] | None = None

    async def next(self, timeout: float) -> Change:
        """Wait for a change of any batch."""
        states = tuple(await self._follower.next_changes(timeout))
        if self._follower.is_closing():
            return Change(is_closing=True)
        events = self._news(states) if self._known is not None else ()
        self._known = (self._known or set()) | {state.id for state in states}
        return Change(bool(states), events=events, states=states)

    def _news(self, states: tuple[BatchState, ...]) -> tuple[tuple[str, bytes], ...]:
        ids = [state.id for state in states if state.id not in (self._known or ()) and not state.status.has_ended]
        return (("new", event_stream.event("new", {"ids": ids[:100]})),) if ids else ()


class StatusChanges:
    """Changes for pages that show no counters of batches; the states that come first are those of all open batches."""

    def __init__(self, follower: ListFollower) -> None:
        self._follower = follower
        self._statuses: dict[str, BatchStatus] | None = None

    async def next(self, timeout: float) -> Change:
        """Wait for another status of any batch."""
        states = await self._follower.next_changes(timeout)
        if self._follower.is_closing():
            return Change(is_closing=True)
        is_first, known = self._statuses is None, self._statuses or {}
        has_changed = not is_first and any(known.get(state.id) != state.status for state in states)
        open_states = {state.id: state.status for state in states if not state.status.has_ended}
        ended = {state.id for state in states if state.status.has_ended}
        self._statuses = {key: status for key, status in (known | open_states).items() if key not in ended}
        return Change(has_changed)


@asynccontextmanager
async def changes_of_batch(watch: BatchWatch, batch_id: str) -> AsyncIterator[Changes]:
    """The changes of one batch."""
    async with watch.follow(batch_id, is_patient=True) as follower:
        yield _ChangesOfBatch(follower)


@asynccontextmanager
async def changes_of_all(watch: BatchWatch, tenant: str | None) -> AsyncIterator[Changes]:
    """The changes of any batch of a tenant; None = of all tenants."""
    async with watch.follow_all(tenant, is_patient=True) as follower:
        yield _ChangesOfAll(follower)


@asynccontextmanager
async def changes_of_statuses(watch: BatchWatch, tenant: str | None) -> AsyncIterator[Changes]:
    """The batches of a tenant that come, end, or get another status; None = of all tenants."""
    async with watch.follow_all(tenant, is_patient=True) as follower:
        yield StatusChanges(follower)


@asynccontextmanager
async def no_changes(stopping: asyncio.Event) -> AsyncIterator[Changes]:
    """The changes of a page that only follows the clock."""
    yield _NoChanges(stopping)


class _NoChanges:
    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping

    async def next(self, timeout: float) -> Change:
        """Wait."""
        await asyncio.sleep(min(timeout, 1.0))
        return Change(is_closing=self._stopping.is_set())
