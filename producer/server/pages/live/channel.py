"""One channel for everybody who sees the same page: it renders parts when something has changed, and sends them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from anyio import CapacityLimiter, to_thread

from models.errors import BatchmillError, NotFound
from producer.batches.changes import BatchState
from producer.server.context import ServerContext
from producer.server.following import event_stream
from producer.server.pages.frame.formats import now_milliseconds
from producer.server.pages.live import parts
from producer.server.pages.live.followers import PageFollower, part_event
from producer.server.pages.live.parts import Audience, LivePage, LivePart, PartPace

MIN_PAUSE_SECONDS = 1.0  # between two looks, however much happens
MAX_PAUSE_SECONDS = 2.0  # after which a channel without followers ends
TROUBLE_SECONDS = 3.0  # after an error
STATE = "state"  # key of the event that says how far a batch is

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChannelKey:
    """What is shown, and to whom.

    kind: of the page
    subject: the id of what it shows, or the filter of a list; empty = there is one page of this kind
    path: of the page
    """

    kind: str
    subject: Hashable
    path: str
    audience: Audience


@dataclass(frozen=True, slots=True)
class Change:
    """What has happened.

    is_gone: the subject was deleted
    is_urgent: it has another status
    events: for the page's script, by key
    states: of the batches that changed
    """

    has_changed: bool = False
    is_gone: bool = False
    is_urgent: bool = False
    is_closing: bool = False
    events: tuple[tuple[str, bytes], ...] = ()
    states: tuple[BatchState, ...] = ()


class Changes(Protocol):
    """The changes of a subject."""

    async def next(self, timeout: float) -> Change:
        """Wait for a change for at most `timeout` seconds."""


@dataclass(frozen=True, slots=True)
class _Rendered:
    event: bytes
    compared: str
    moment: int


class Channel:
    """Renders the parts of a page for its followers, until the last one has left.

    changes: opens the watch on what the page shows
    count_channels: returns how many channels share the time of the server
    """

    def __init__(
        self,
        context: ServerContext,
        key: ChannelKey,
        page: LivePage,
        changes: AbstractAsyncContextManager[Changes],
        threads: CapacityLimiter,
        count_channels: Callable[[], int],
    ) -> None:
        self.key = key
        self.followers: set[PageFollower] = set()
        self._context, self._changes, self._threads = context, changes, threads
        self._open = page.open
        self._paces = {part.name: PartPace(part) for part in page.parts_for(key.audience)}
        self._rendered: dict[str, _Rendered] = {}
        self._state: tuple[int, bytes] = (0, b"")  # the last one, and when it came
        self._has_trouble = False
        self._count_channels = count_channels
        self._rests_until = 0.0  # so that many pages which differ don't take the server's time

    @asynccontextmanager
    async def join(self, follower: PageFollower) -> AsyncIterator[None]:
        """Send events to a follower while the block runs, first those that its page does not have."""
        for name, rendered in self._rendered.items():
            if rendered.moment >= follower.since and not self._paces[name].is_changed:
                follower.put(name, rendered.event)
        if self._state[1] and self._state[0] >= follower.since:
            follower.put(STATE, self._state[1])
        self.followers.add(follower)
        try:
            yield
        finally:
            self.followers.discard(follower)

    async def run(self) -> None:
        """Watch and render until nobody follows, the subject is gone, or the server stops."""
        try:
            async with self._changes as changes:
                while self.followers:
                    change = await changes.next(self._seconds_left())
                    if change.is_closing or change.is_gone:
                        if change.is_gone:
                            self._send("gone", event_stream.event("gone", {}))
                        return
                    await self._show(change)
                    await asyncio.sleep(TROUBLE_SECONDS if self._has_trouble else MIN_PAUSE_SECONDS)
        except NotFound:
            self._send("gone", event_stream.event("gone", {}))
        except Exception as error:
            log.warning("live.channel_failed", page=self.key.kind, error_type=_code(error))
        finally:
            for follower in tuple(self.followers):
                follower.close()

    def _seconds_left(self) -> float:
        now = time.monotonic()
        due = min((pace.seconds_left(now) for pace in self._paces.values()), default=MAX_PAUSE_SECONDS)
        return min(MAX_PAUSE_SECONDS, max(due, self._rests_until - now))

    async def _show(self, change: Change) -> None:
        """Render what is due after a change, and send what is different from before."""
        self._send_events(change)
        if change.has_changed:
            for pace in self._paces.values():
                pace.note_change(is_urgent=change.is_urgent)
        try:
            now = time.monotonic()
            is_rested = change.is_urgent or now >= self._rests_until
            if is_rested and (due := [pace for pace in self._paces.values() if pace.seconds_left(now) == 0]):
                await self._render(due)
            await self.show_states(change.states)
            self._context.watch.check()  # also where nothing was due that would have failed
        except NotFound:
            raise
        except Exception as error:  # it is rendered later
            self._note_trouble(error)
        else:
            self._note_success()

    async def show_states(self, states: tuple[BatchState, ...]) -> None:
        """Show the batches that changed; a page without a list shows none."""

    async def _render(self, due: Sequence[PartPace]) -> None:
        moment = now_milliseconds()
        for pace in due:
            pace.note_rendering(time.monotonic())
        try:
            texts, cpu_seconds = await to_thread.run_sync(
                self._render_texts, [pace.part for pace in due], limiter=self._threads
            )
        except BaseException:
            for pace in due:
                pace.note_change()
            raise
        self._rests_until = time.monotonic() + parts.rest_seconds(cpu_seconds, self._count_channels())
        for name, html in texts.items():
            compared = parts.without_ages(html)
            known = self._rendered.get(name)
            if known is None or known.compared != compared:
                rendered = _Rendered(part_event(name, html, moment), compared, moment)
                self._rendered[name] = rendered
                self._send(name, rendered.event)

    def _render_texts(self, due: Sequence[LivePart]) -> tuple[dict[str, str], float]:
        """Render parts, with what they have in common read once; returns them and the seconds of CPU that it took."""
        began = time.thread_time()
        audience, path = self.key.audience, self.key.path
        opened = self._open(self._context, audience.principal, self.key.subject)
        texts = {
            part.name: parts.render_part(
                part.template, audience, path, part.read(self._context, audience.principal, opened)
            )
            for part in due
        }
        return texts, time.thread_time() - began

    def _send_events(self, change: Change) -> None:
        for key, event in change.events:
            self._send(key, event)
            if key == STATE:
                self._state = (now_milliseconds(), event)

    def _send(self, key: str, event: bytes) -> None:
        for follower in self.followers:
            follower.put(key, event)

    def _note_trouble(self, error: Exception) -> None:
        if not self._has_trouble:
            log.warning("live.rendering_failed", page=self.key.kind, error_type=_code(error))
        self._has_trouble = True
        self._send(STATE, event_stream.event("trouble", {"code": _code(error)}))

    def _note_success(self) -> None:
        if self._has_trouble:
            self._has_trouble = False
            self._send(STATE, event_stream.event("fine", {"at": now_milliseconds()}))


def _code(error: Any) -> str:
    return error.code if isinstance(error, BatchmillError) else type(error).__name__
