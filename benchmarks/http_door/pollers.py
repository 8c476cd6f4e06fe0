"""Pollers that each ask for the status and for a page of results every two seconds."""

import asyncio
import random
import time
from dataclasses import dataclass, field

from benchmarks.http_door.raw_http import Connection
from benchmarks.http_door.served import Served
from benchmarks.read_latency import percentile_ms
from producer.results.pages import PAGE_ROWS

PERIOD_SECONDS = 2.0
WARM_SECONDS = 4.0  # not counted


@dataclass
class PollerFigures:
    """Seconds of each answer, and the server's share of a core."""

    name: str
    status_seconds: list[float] = field(default_factory=list)
    page_seconds: list[float] = field(default_factory=list)
    core_share: float = 0.0

    def milliseconds(self, quantile: float) -> tuple[float, float]:
        """A percentile of the status and of the page."""
        return percentile_ms(self.status_seconds, quantile), percentile_ms(self.page_seconds, quantile)


async def measure(name: str, server: Served, batch_id: str, rows: int, pollers: int, seconds: float) -> PollerFigures:
    """Let pollers ask for this many seconds."""
    figures = PollerFigures(name)
    ends = time.perf_counter() + WARM_SECONDS + seconds
    tasks = [asyncio.create_task(_poll(server, batch_id, rows, ends, ends - seconds, figures)) for _ in range(pollers)]
    await asyncio.sleep(WARM_SECONDS)
    before = server.processor_seconds()
    await asyncio.gather(*tasks)
    figures.core_share = (server.processor_seconds() - before) / seconds
    return figures


async def _poll(
    server: Served, batch_id: str, rows: int, ends: float, counts_from: float, figures: PollerFigures
) -> None:
    choose = random.Random(id(object()))
    connection = await Connection.open(server.host, server.port)
    try:
        await asyncio.sleep(choose.uniform(0, PERIOD_SECONDS))
        while (now := time.perf_counter()) < ends:
            after = choose.randrange(max(1, rows - PAGE_ROWS))
            status_at = now
            await connection.get(f"/api/batches/{batch_id}")
            page_at = time.perf_counter()
            await connection.get(f"/api/batches/{batch_id}/results?after={after}&limit={PAGE_ROWS}")
            if status_at >= counts_from:
                figures.status_seconds.append(page_at - status_at)
                figures.page_seconds.append(time.perf_counter() - page_at)
            await asyncio.sleep(max(0.0, status_at + PERIOD_SECONDS - time.perf_counter()))
    finally:
        connection.close()
