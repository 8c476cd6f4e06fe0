"""The watch over the database: a busy process is no outage, and a request that begins to wait is looked at at once."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.db import Database
from models.errors import Unreachable
from producer.server.requests import outages
from producer.server.requests.outages import DatabaseWatch, OutageGuard

SCOPE = {"type": "http", "path": "/api/batches", "method": "GET", "headers": []}


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseWatch]:
    for name in ("SUSPECT_SECONDS", "SHORT_SECONDS", "AGAIN_SECONDS"):
        monkeypatch.setattr(outages, name, 0.01)
    database = Database(f"sqlite:///{tmp_path / 'w.db'}")
    yield DatabaseWatch(database, database, ping_seconds=60.0)
    database.close()


async def request(watch: DatabaseWatch, answer: "asyncio.Event | None" = None, status: int = 200) -> int:
    """The status with which a request is answered, by the watch or by the application."""
    statuses = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        if answer is not None:
            await answer.wait()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body"})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
            if answer is not None:
                answer.set()

    await OutageGuard(app, watch)(SCOPE, send, send)
    return statuses[0]


def silent(watch: DatabaseWatch, meanwhile: Callable[[], object]) -> Callable[[], Any]:
    """A question without an answer, while something else happens."""

    async def ask() -> None:
        meanwhile()
        raise watch.error

    return ask


def test_a_question_without_an_answer_is_an_outage(watch: DatabaseWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "ask", silent(watch, lambda: None))

    async def run() -> tuple[int, bool]:
        status = await request(watch, asyncio.Event())
        return status, watch.out_since is not None

    assert asyncio.run(run()) == (503, True)


def test_an_answer_to_anybody_ends_the_outage(watch: DatabaseWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_read_version", lambda: "0011")

    async def run() -> list[int]:
        watch.out_since = asyncio.get_running_loop().time()
        statuses = [await request(watch)]
        assert await watch.ask() == "0011"  # as /readyz does
        return [*statuses, await request(watch)]

    assert asyncio.run(run()) == [503, 200]


def test_a_busy_process_is_none(watch: DatabaseWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def count() -> None:
        nonlocal asked
        asked += 1
        watch._count_answer()

    monkeypatch.setattr(watch, "ask", silent(watch, count))

    async def run() -> tuple[int, bool]:
        answer = asyncio.Event()
        waiting = asyncio.create_task(request(watch, answer))
        while asked < 3:
            await asyncio.sleep(0.01)
        answer.set()
        return await waiting, watch.out_since is None

    assert asyncio.run(run()) == (200, True)


def test_a_second_request_is_looked_at_while_another_waits(
    watch: DatabaseWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "PATIENT_SECONDS", 1_000.0)
    is_out = False

    async def ask() -> None:
        if is_out:
            raise watch.error

    monkeypatch.setattr(watch, "ask", ask)

    async def run() -> list[int]:
        nonlocal is_out
        first = asyncio.create_task(request(watch, asyncio.Event()))
        await asyncio.sleep(0.1)  # the watch has asked, and is patient
        is_out = True
        return [await request(watch, asyncio.Event()), await first]

    assert asyncio.run(asyncio.wait_for(run(), 60)) == [503, 503]


def test_a_request_that_failed_at_once_makes_the_watch_ask(
    watch: DatabaseWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def ask() -> None:
        asked.set()
        raise Unreachable("refused")

    monkeypatch.setattr(watch, "ask", ask)

    async def run() -> bool:
        assert await request(watch, status=503) == 503
        await asyncio.wait_for(asked.wait(), 60)
        async with asyncio.timeout(60):
            while watch.out_since is None:
                await asyncio.sleep(0.01)
        return True

    assert asyncio.run(run())
