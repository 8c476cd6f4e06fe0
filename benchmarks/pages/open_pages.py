"""The share of a core that open pages cost a server, while a worker writes results and while nothing happens."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import text

from benchmarks.http_door.raw_http import Connection
from benchmarks.http_door.served import Served
from benchmarks.pages.seeding import LARGE_BATCH_ID
from models.db import Database
from tests.fake_worker import write_results

SETTLE_SECONDS = 10.0  # in which every part is sent, and the connections are made
COMMIT_ROWS, COMMIT_SECONDS = 64, 0.25


@dataclass(frozen=True, slots=True)
class OpenPages:
    """What open pages cost.

    pages: 0 = what the server costs anyway
    core_share: of the server's processor time
    kilobytes: that each page was sent in a second
    """

    pages: int
    seconds: float
    is_busy: bool
    core_share: float
    kilobytes: float


async def measure(server: Served, database: Database, pages: int, seconds: float) -> list[OpenPages]:
    """Open pages, as many of each kind; look at the server before, while nothing happens, and while a worker writes."""
    streams = [
        "/events/overview",
        f"/events/batches/{LARGE_BATCH_ID}",
        f"/events/batches?rows={LARGE_BATCH_ID}",
        *(f"/events/{name}" for name in ("schedules", "workers", "pipelines", "usage")),
    ]
    await asyncio.sleep(SETTLE_SECONDS)
    alone = await _look(server, [], seconds, is_busy=False)
    counts = [0] * pages
    connections = [await Connection.open(server.host, server.port) for _ in range(pages)]
    readers = [
        asyncio.create_task(_read(connection, streams[number % len(streams)], counts, number))
        for number, connection in enumerate(connections)
    ]
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        idle = await _look(server, counts, seconds, is_busy=False)
        with _writing(database):
            await asyncio.sleep(SETTLE_SECONDS)
            busy = await _look(server, counts, seconds, is_busy=True)
        return [alone, idle, busy]
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        for connection in connections:
            connection.close()


async def _look(server: Served, counts: list[int], seconds: float, *, is_busy: bool) -> OpenPages:
    processor, received, started = server.processor_seconds(), sum(counts), time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    share = (server.processor_seconds() - processor) / elapsed
    kilobytes = (sum(counts) - received) / 1000 / elapsed / len(counts) if counts else 0.0
    return OpenPages(len(counts), round(elapsed, 1), is_busy, round(share, 4), round(kilobytes, 2))


async def _read(connection: Connection, path: str, counts: list[int], number: int) -> None:
    await connection.start(path, "text/event-stream")
    while block := await connection.reader.read(65_536):
        counts[number] += len(block)


@contextmanager
def _writing(database: Database) -> Iterator[None]:
    """Write results as a worker does while the block runs."""
    stopped = threading.Event()

    def write() -> None:
        with database.read() as connection:
            query = text("SELECT max(position) + 1 FROM results WHERE batch_id = :id")
            position = connection.execute(query, {"id": LARGE_BATCH_ID}).scalar_one()
        answer = {"label": "POSITIVE", "score": 0.9}
        while not stopped.wait(COMMIT_SECONDS):
            write_results(database, LARGE_BATCH_ID, [(position + place, answer) for place in range(COMMIT_ROWS)])
            position += COMMIT_ROWS

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield
    finally:
        stopped.set()
        writer.join()
