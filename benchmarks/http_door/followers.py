"""Followers that wait for results of a batch on which nobody works."""

import asyncio
from dataclasses import dataclass

from benchmarks.http_door.raw_http import Connection
from benchmarks.http_door.served import Served

SETTLE_SECONDS = 2.0
AT_ONCE = 50  # that connect


@dataclass(frozen=True, slots=True)
class FollowerFigures:
    """What followers cost while nothing happens.

    mib: more resident memory of the server
    core_share: of the server's processor time
    """

    followers: int
    mib: float
    core_share: float


async def measure(server: Served, batch_id: str, followers: int, seconds: float) -> FollowerFigures:
    """Connect followers, and look at the server while they wait."""
    before_mib = server.memory_mib()
    connections: list[Connection] = []
    try:
        for start in range(0, followers, AT_ONCE):
            count = min(AT_ONCE, followers - start)
            connections += await asyncio.gather(*(_follow(server, batch_id) for _ in range(count)))
        await asyncio.sleep(SETTLE_SECONDS)
        before = server.processor_seconds()
        await asyncio.sleep(seconds)
        share = (server.processor_seconds() - before) / seconds
        return FollowerFigures(len(connections), server.memory_mib() - before_mib, share)
    finally:
        for connection in connections:
            connection.close()


async def _follow(server: Served, batch_id: str) -> Connection:
    connection = await Connection.open(server.host, server.port)
    await connection.start(f"/api/batches/{batch_id}/follow", "text/event-stream")
    return connection
