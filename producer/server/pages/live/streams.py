"""The stream of an open page: its parts as they change, and signs that the connection and the session are alive."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

import anyio

from models import version
from models.errors import Unreachable
from producer.server.following import event_stream
from producer.server.pages.frame.formats import now_milliseconds
from producer.server.pages.live.channel import ChannelKey
from producer.server.pages.live.followers import PageFollower
from producer.server.pages.live.hub import LiveHub

BEAT_SECONDS = 10.0  # of silence, after which a page is sent the time
CHECK_SECONDS = 15.0  # between two looks whether the session is still valid


async def stream_page(
    hub: LiveHub, key: ChannelKey, follower: PageFollower, is_allowed: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes]:
    """Yield the events of a page until the server stops, the session ends, or what it shows is gone.

    is_allowed: may raise Unreachable, which ends nothing
    """
    yield event_stream.begin()
    yield event_stream.event("hello", {"version": version.full_version(), "at": now_milliseconds()})
    next_check = anyio.current_time() + CHECK_SECONDS
    async with hub.follow(key, follower):
        while not follower.is_closing:
            events = await follower.take(BEAT_SECONDS)
            if anyio.current_time() >= next_check:
                next_check = anyio.current_time() + CHECK_SECONDS
                if await _is_signed_out(is_allowed):
                    yield event_stream.event("signed-out", {})
                    return
            yield events or event_stream.event("beat", {"at": now_milliseconds()})


async def _is_signed_out(is_allowed: Callable[[], Awaitable[bool]]) -> bool:
    with suppress(Unreachable):
        return not await is_allowed()
    return False
