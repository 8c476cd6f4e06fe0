"""One task watches all batches that somebody follows, so that a thousand followers cost one statement a second."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import chain

import structlog
from anyio import CapacityLimiter, to_thread

from models.db import Database
from models.errors import BatchmillError
from producer.batches.changes import BatchState, read_open_and_newest, read_states

# While batches change, results should arrive promptly; otherwise a second is soon enough.
BUSY_SECONDS, IDLE_SECONDS = 0.25, 1.0
MAX_THREADS = 4  # that read pages for followers at once

log = structlog.get_logger(__name__)


class BatchFollower:
    """Somebody who waits for changes of one batch.

    is_patient: whether a second is soon enough for them, also while the batch changes
    state: as it was last seen; None = the batch is gone
    """

    def __init__(self, *, is_patient: bool = False) -> None:
        self.is_patient = is_patient
        self.state: BatchState | None = None
        self._event = asyncio.Event()
        self._is_closing = False

    def is_closing(self) -> bool:
        """Whether the server stops, so that the follower should come again."""
        return self._is_closing

    def begin(self, state: BatchState | None) -> None:
        """Tell the first state, which is no change."""
        self.state = state
        self._event.clear()

    def notify(self, state: BatchState | None) -> bool:
        """Tell what the state is now; returns whether it has changed."""
        has_changed = state != self.state
        if has_changed:
            self.state = state
            self._event.set()
        return has_changed

    def close(self) -> None:
        """Say that the server stops."""
        self._is_closing = True
        self._event.set()

    async def wait_for_change(self, timeout: float) -> bool:
        """Wait until something has changed since the last call; False after `timeout` seconds without a change."""
        return await _wait(self._event, timeout)


class ListFollower:
    """Somebody who waits for changes of any batch of a tenant; several changes of one become one.

    tenant: None = of all tenants
    is_patient: whether a second is soon enough for them, also while batches change
    """

    def __init__(self, tenant: str | None, *, is_patient: bool = False) -> None:
        self.tenant, self.is_patient = tenant, is_patient
        self._changed: dict[str, BatchState] = {}
        self._event = asyncio.Event()
        self._is_closing = False

    def is_closing(self) -> bool:
        """Whether the server stops, so that the follower should come again."""
        return self._is_closing

    def notify(self, states: Mapping[str, BatchState]) -> None:
        """Tell which batches have changed."""
        mine = {key: state for key, state in states.items() if self.tenant in (None, state.tenant)}
        if mine:
            self._changed |= mine
            self._event.set()

    def close(self) -> None:
        """Say that the server stops."""
        self._is_closing = True
        self._event.set()

    async def next_changes(self, timeout: float) -> list[BatchState]:
        """Wait for changes and return them; none after `timeout` seconds."""
        await _wait(self._event, timeout)
        changed, self._changed = self._changed, {}
        return list(changed.values())


class BatchWatch:
    """Reads the state of all followed batches again and again, while there are followers.

    stopping: set when the server stops; every stream then ends, and its client comes again elsewhere
    """

    def __init__(self, database: Database, stopping: asyncio.Event) -> None:
        self.page_threads = CapacityLimiter(MAX_THREADS)
        self._database = database
        self._poll_threads = CapacityLimiter(1)
        self._followers: dict[str, set[BatchFollower]] = {}
        self._list_followers: set[ListFollower] = set()
        self._listed: dict[str, BatchState] = {}
        self._stopping = stopping
        self._trouble: Exception | None = None
        self._reading = threading.Lock()  # held by the thread that reads
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def follow(self, batch_id: str, *, is_patient: bool = False) -> AsyncIterator[BatchFollower]:
        """Follow one batch while the block runs."""
        follower = BatchFollower(is_patient=is_patient)
        followers = self._followers.setdefault(batch_id, set())
        followers.add(follower)
        try:
            # After it is registered, so that no change comes in between.
            states = await to_thread.run_sync(read_states, self._database, [batch_id], limiter=self.page_threads)
            follower.begin(states.get(batch_id))
            self._begin(follower)
            yield follower
        finally:
            followers.discard(follower)
            if not followers and self._followers.get(batch_id) is followers:
                del self._followers[batch_id]

    @asynccontextmanager
    async def follow_all(self, tenant: str | None, *, is_patient: bool = False) -> AsyncIterator[ListFollower]:
        """Follow all batches of a tenant while the block runs; the first changes are those that have not ended."""
        follower = ListFollower(tenant, is_patient=is_patient)
        states = await to_thread.run_sync(read_open_and_newest, self._database, limiter=self.page_threads)
        follower.notify({key: state for key, state in states.items() if not state.status.has_ended})
        if not self._list_followers:
            self._listed = states
        self._list_followers.add(follower)
        try:
            self._begin(follower)
            yield follower
        finally:
            self._list_followers.discard(follower)

    def _close(self) -> None:
        for followers in self._followers.values():
            for follower in followers:
                follower.close()
        for list_follower in self._list_followers:
            list_follower.close()

    def _begin(self, follower: BatchFollower | ListFollower) -> None:
        if self._stopping.is_set():
            follower.close()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        self._trouble = None
        while not self._stopping.is_set() and (self._followers or self._list_followers):
            pause = IDLE_SECONDS
            try:
                if await self.poll() and self._is_somebody_hasty():
                    pause = BUSY_SECONDS
                self._trouble = None
            except Exception as error:  # the followers stay, and see the changes later
                if self._trouble is None:
                    code = error.code if isinstance(error, BatchmillError) else type(error).__name__
                    log.warning("following.poll_failed", error_type=code)
                self._trouble = error
            await asyncio.sleep(pause)  # a second is soon enough to see that the server stops
        self._trouble = None
        self._close()

    def check(self) -> None:
        """Raise the error of the last look, if it failed, so that followers may miss changes."""
        if self._trouble is not None:
            raise self._trouble.with_traceback(None)

    def _is_somebody_hasty(self) -> bool:
        of_batches = chain.from_iterable(self._followers.values())
        return any(not follower.is_patient for follower in of_batches) or any(
            not follower.is_patient for follower in self._list_followers
        )

    async def poll(self) -> bool:
        """Read all states once, and wake those whose batch has changed; returns whether any has."""
        ids, is_listing = list(self._followers), bool(self._list_followers)
        known = self._listed
        states, listed = await to_thread.run_sync(self._read, ids, known, is_listing, limiter=self._poll_threads)
        has_changed = False
        for batch_id in ids:
            for follower in tuple(self._followers.get(batch_id, ())):
                has_changed |= follower.notify(states.get(batch_id))
        if changed := {key: state for key, state in listed.items() if known.get(key) != state}:
            has_changed = True
            for list_follower in tuple(self._list_followers):
                list_follower.notify(changed)
        if is_listing:  # another follower of the list may have come meanwhile, and brought the states
            self._listed = listed
        return has_changed

    def _read(
        self, ids: list[str], known: Mapping[str, BatchState], is_listing: bool
    ) -> tuple[dict[str, BatchState], dict[str, BatchState]]:
        """Read the states of the followed batches, and of those in the list."""
        with self._reading:
            states = read_states(self._database, ids)
            if not is_listing:
                return states, {}
            listed = read_open_and_newest(self._database)
            # Those that ended since the last time are in neither part.
            missing = [key for key, state in known.items() if key not in listed and not state.status.has_ended]
            return states, listed | read_states(self._database, missing)

    def close(self) -> None:
        """Wait for a statement that still runs, once the event loop has ended and before the database is closed."""
        with self._reading:
            pass


async def _wait(event: asyncio.Event, timeout: float) -> bool:
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True
