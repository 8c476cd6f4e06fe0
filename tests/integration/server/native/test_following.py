"""Following over HTTP: nothing is lost and nothing comes twice, however many follow and reconnect."""

import asyncio
import gc
import json
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from models.db import Database
from models.errors import Unreachable
from models.lifecycle import retention
from producer.batches import changes, views
from producer.batches.actions import retry
from producer.batches.actions.retry import RetrySelection
from producer.batches.changes import read_states
from producer.results import pages
from producer.results.result_row import ResultRow
from producer.server import access
from producer.server.downloads import IncompleteResponse
from producer.server.following import streams, watch
from producer.server.following.streams import Follow
from producer.server.following.watch import BatchWatch
from producer.server.native.batches import objects
from producer.tenants import keys
from producer.tenants.keys import KeyRequest
from producer.tenants.principal import Scope
from tests import fake_worker
from tests.factories.batch_rows import insert_batch
from tests.factories.http_server import app_over, client_over, key_headers
from tests.factories.served_app import served
from tests.servers import WAIT_TIMEOUT_SECONDS, wait_until

GOOD = {"label": "POSITIVE", "score": 0.5}


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    id: str | None
    data: Any


def parse_events(text: str) -> list[Event]:
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "event" in fields:
            events.append(Event(fields["event"], fields.get("id"), json.loads(fields["data"])))
    return events


def positions(events: list[Event]) -> list[int]:
    return [event.data["position"] for event in events if event.name == "result"]


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread while the block runs."""
    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()


@pytest.fixture
def new_watch(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchWatch]:
    monkeypatch.setattr(watch, "BUSY_SECONDS", 0.01)
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.01)
    made = BatchWatch(database, asyncio.Event())
    yield made
    made.close()


async def read_all(stream: AsyncIterator[bytes]) -> str:
    return b"".join([part async for part in stream]).decode()


class TestEvents:
    def test_results_progress_and_the_end(self, api: TestClient, database: Database) -> None:
        batch_id = insert_batch(database, 3)
        fake_worker.write_results(database, batch_id, [(2, GOOD)])

        def work() -> None:
            fake_worker.write_results(database, batch_id, [(0, GOOD), (1, "model_error")])
            fake_worker.end_batch(database, batch_id)

        with meanwhile(work):
            response = api.get(f"/api/batches/{batch_id}/follow")
        events = parse_events(response.text)

        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-accel-buffering"] == "no"
        assert response.text.startswith("retry: 2000\n\n")
        assert [(event.data["position"], event.id) for event in events if event.name == "result"] == [
            (2, "1"),
            (0, "2"),
            (1, "3"),
        ]
        assert (events[-1].name, events[-1].data) == ("end", views.get_batch(database, batch_id).as_dict())
        assert events[-2].data["request_counts"]["failed"] == 1
        objects.Result.model_validate(events[0].data)

    def test_a_client_that_comes_again_misses_nothing(self, api: TestClient, database: Database) -> None:
        batch_id = insert_batch(database, 4)
        fake_worker.write_results(database, batch_id, [(position, GOOD) for position in (3, 1, 0, 2)])
        fake_worker.end_batch(database, batch_id)
        path = f"/api/batches/{batch_id}/follow"

        by_id = parse_events(api.get(path, headers={"last-event-id": "2"}).text)
        by_query = parse_events(api.get(path, params={"after": 3}).text)
        both = parse_events(api.get(path, params={"after": 1}, headers={"last-event-id": "4"}).text)

        assert (positions(by_id), positions(by_query), positions(both)) == ([0, 2], [2], [])
        assert [events[-1].name for events in (by_id, by_query, both)] == ["end"] * 3

    def test_the_status_chooses_and_the_cursor_goes_on(self, api: TestClient, database: Database) -> None:
        batch_id = insert_batch(database, 3)
        fake_worker.write_results(database, batch_id, [(0, "model_error"), (1, GOOD), (2, GOOD)])
        fake_worker.end_batch(database, batch_id)

        failed = parse_events(api.get(f"/api/batches/{batch_id}/follow?status=failed").text)
        progress = parse_events(api.get(f"/api/batches/{batch_id}/follow?results=false").text)

        assert [event.name for event in failed] == ["result", "progress", "end"]
        assert failed[1].id == "3"
        assert [event.name for event in progress] == ["progress", "end"]

    def test_lines_of_json(self, api: TestClient, database: Database) -> None:
        batch_id = insert_batch(database, 2)

        def work() -> None:
            fake_worker.write_results(database, batch_id, [(1, GOOD), (0, GOOD)])
            fake_worker.end_batch(database, batch_id)

        with meanwhile(work):
            response = api.get(f"/api/batches/{batch_id}/follow", headers={"accept": "application/x-ndjson"})

        assert response.headers["content-type"] == "application/x-ndjson"
        assert [json.loads(line)["position"] for line in response.text.splitlines() if line] == [1, 0]

    @pytest.mark.parametrize("last_id", ["x", "-1", "1.5", "9" * 40, "٣"])
    def test_a_last_id_that_is_none_is_refused(self, api: TestClient, database: Database, last_id: str) -> None:
        headers = {"last-event-id": last_id.encode()}

        response = api.get(f"/api/batches/{insert_batch(database, 1)}/follow", headers=headers)  # type: ignore[arg-type]

        assert response.status_code == 400

    def test_without_a_database_the_stream_breaks_off(
        self, api: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        batch_id = insert_batch(database, 1)

        def unreachable(*_: Any, **__: Any) -> Any:
            raise Unreachable("the database is gone")

        monkeypatch.setattr(pages, "fetch_page", unreachable)
        response = api.get(f"/api/batches/{batch_id}/follow")

        assert response.text == "retry: 2000\n\n"
        logged = "".join(capsys.readouterr())
        assert "following.stream_failed" in logged
        assert "request.failed" not in logged


class TestWait:
    def test_it_answers_with_the_end(self, api: TestClient, database: Database) -> None:
        batch_id = insert_batch(database, 1)

        with meanwhile(lambda: fake_worker.end_batch(database, batch_id)):
            response = api.get(f"/api/batches/{batch_id}/wait", params={"timeout": 60})

        assert response.json()["status"] == "completed"

    def test_or_at_the_timeout_with_the_batch_as_it_is(self, api: TestClient, database: Database) -> None:
        batch_id = insert_batch(database, 1)

        response = api.get(f"/api/batches/{batch_id}/wait", params={"timeout": 0.01})

        assert (response.status_code, response.json()["status"]) == (200, "in_progress")
        assert api.get(f"/api/batches/{batch_id}/wait?timeout=61").status_code == 400
        assert api.get(f"/api/batches/{batch_id}/wait?timeout=nan").status_code == 400

    def test_or_with_another_status(self, api: TestClient, database: Database) -> None:
        batch_id = insert_batch(database, 1)

        response = api.get(f"/api/batches/{batch_id}/wait", params={"timeout": 60, "after_status": "validating"})

        assert response.json()["status"] == "in_progress"


class TestManyFollowers:
    def test_two_hundred_get_each_result_once_from_one_poller(
        self, database: Database, new_watch: BatchWatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch_ids = [insert_batch(database, 6) for _ in range(4)]
        polled: list[int] = []

        def counted(database: Database, ids: list[str]) -> Any:
            polled.append(len(ids))
            return read_states(database, ids)

        monkeypatch.setattr(watch, "read_states", counted)

        def work() -> None:
            for start in (0, 2, 4):
                for batch_id in batch_ids:
                    fake_worker.write_results(database, batch_id, [(start, GOOD), (start + 1, "model_error")])
            for batch_id in batch_ids:
                fake_worker.end_batch(database, batch_id)

        async def follow_all() -> list[str]:
            follows = [Follow(batch_ids[number % 4], None) for number in range(200)]
            readers = [read_all(streams.stream_events(database, new_watch, follow)) for follow in follows]
            texts = await asyncio.gather(*readers, asyncio.to_thread(work))
            return [str(text) for text in texts[:-1]]

        texts = asyncio.run(follow_all())

        for text in texts:
            events = parse_events(text)
            assert positions(events) == [0, 1, 2, 3, 4, 5]
            assert events[-1].name == "end"
        assert polled.count(1) >= 200  # each follower looks once by itself
        assert max(polled) == 4
        assert new_watch._followers == {}

    @pytest.mark.parametrize(("patience", "pause"), [([True, True], "idle"), ([True, False], "busy")])
    def test_who_is_patient_costs_one_look_a_second(
        self,
        database: Database,
        new_watch: BatchWatch,
        monkeypatch: pytest.MonkeyPatch,
        patience: list[bool],
        pause: str,
    ) -> None:
        batch_id = insert_batch(database, 1)
        pauses = {watch.IDLE_SECONDS: "idle", 0.005: "busy"}
        monkeypatch.setattr(watch, "BUSY_SECONDS", 0.005)
        taken: list[str] = []
        sleep = asyncio.sleep

        async def note(seconds: float) -> None:
            taken.append(pauses[seconds])
            await sleep(seconds)

        async def follow() -> None:
            async with (
                new_watch.follow(batch_id, is_patient=patience[0]) as follower,
                new_watch.follow_all(None, is_patient=patience[1]),
            ):
                monkeypatch.setattr(asyncio, "sleep", note)
                await asyncio.to_thread(fake_worker.write_results, database, batch_id, [(0, GOOD)])
                assert await follower.wait_for_change(60)
                while not taken:
                    await sleep(0.001)

        asyncio.run(follow())

        assert pause in taken
        assert pause == "busy" or set(taken) == {"idle"}

    def test_a_stream_ends_with_its_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.0)
        answers: list[bool | Exception] = [True, Unreachable("no answer"), False]
        was_closed, received = [], []

        async def parts() -> AsyncGenerator[bytes]:
            try:
                for number in range(9):
                    yield b"%d" % number
            finally:
                was_closed.append(True)

        async def is_allowed() -> bool:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def follow() -> None:
            async for part in streams.while_allowed(parts(), is_allowed):
                received.append(part)

        with pytest.raises(IncompleteResponse):
            asyncio.run(follow())
        assert (received, was_closed) == ([b"0", b"1"], [True])

    def test_a_revoked_key_is_no_longer_valid(self, database: Database, database_url: str) -> None:
        key = keys.create_key(database, KeyRequest("one", (Scope.READ,)))
        scope = {"type": "http", "headers": [(b"authorization", f"Bearer {key.text}".encode())]}
        app = app_over(database, database_url)

        def is_valid() -> bool:
            app.state.context.authenticator._keys._remembered.clear()
            return asyncio.run(access.is_still_valid(Request(scope), app.state.context))

        assert is_valid()
        keys.revoke_key(database, key.view.id)
        assert not is_valid()

    def test_followers_that_read_slowly_hold_one_page_of_bytes(
        self, database: Database, new_watch: BatchWatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "PAGE_ROWS", 10)
        batch_id = insert_batch(database, 40)
        fake_worker.write_results(database, batch_id, [(position, GOOD) for position in range(40)])
        follow = Follow(batch_id, None)

        async def read_slowly() -> tuple[list[bytes], int]:
            events = streams.stream_events(database, new_watch, follow)
            lines = streams.stream_lines(database, new_watch, follow)
            await anext(events)  # the beginning
            parts = [await anext(events), await anext(lines)]
            gc.collect()
            rows = sum(type(thing) is ResultRow and thing.batch_id == batch_id for thing in gc.get_objects())
            await events.aclose()
            await lines.aclose()
            return parts, rows

        parts, rows = asyncio.run(read_slowly())

        assert (parts[0].count(b"event: result"), parts[1].count(b"\n")) == (10, 10)
        assert rows == 0

    def test_a_follower_sees_a_retry_that_happens_meanwhile(self, database: Database, new_watch: BatchWatch) -> None:
        batch_id = insert_batch(database, 2)
        fake_worker.write_results(database, batch_id, [(0, GOOD), (1, "model_error")])
        read_ended = streams._read_ended

        async def retried_first(*args: Any) -> Any:
            """Retry the batch after its end was seen, and before its results are read."""
            if not retried:
                retried.append(await asyncio.to_thread(retry.retry_jobs, database, batch_id, RetrySelection(), 10))
            return await read_ended(*args)

        retried: list[Any] = []
        answered: list[bytes] = []

        async def follow() -> str:
            stream = streams.stream_events(database, new_watch, Follow(batch_id, None))
            parts = []
            async for part in stream:
                parts.append(part)
                if b"in_progress" in part and retried and not answered:
                    answered.append(part)
                    await asyncio.to_thread(fake_worker.write_results, database, batch_id, [(1, GOOD)])
                    await asyncio.to_thread(fake_worker.end_batch, database, batch_id)
            return b"".join(parts).decode()

        fake_worker.end_batch(database, batch_id)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(streams, "_read_ended", retried_first)
            events = parse_events(asyncio.run(asyncio.wait_for(follow(), WAIT_TIMEOUT_SECONDS)))

        assert positions(events) == [0, 1]
        assert [event.data["seq"] for event in events if event.name == "result"] == [1, 3]
        assert events[-1].data["request_counts"]["succeeded"] == 2

    def test_heartbeats_show_that_the_stream_lives(
        self, database: Database, new_watch: BatchWatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.01)
        batch_id = insert_batch(database, 1)

        async def first_parts(stream: AsyncIterator[bytes], count: int) -> list[bytes]:
            return [await anext(stream) for _ in range(count)]

        async def both() -> tuple[list[bytes], list[bytes]]:
            events = streams.stream_events(database, new_watch, Follow(batch_id, None))
            lines = streams.stream_lines(database, new_watch, Follow(batch_id, None))
            return await first_parts(events, 4), await first_parts(lines, 2)

        events, lines = asyncio.run(both())

        assert all(part.startswith(b":") and part.endswith(b"\n\n") for part in events[2:])
        assert lines == [b"\n", b"\n"]

    def test_a_deleted_batch_ends_the_streams(self, database: Database, new_watch: BatchWatch) -> None:
        batch_id = insert_batch(database, 1)
        fake_worker.end_batch(database, batch_id)
        assert retention.begin_deletion(database, batch_id)

        events = asyncio.run(read_all(streams.stream_events(database, new_watch, Follow(batch_id, None))))

        assert [(event.name, event.data["error"]["code"]) for event in parse_events(events)] == [("error", "not_found")]
        with pytest.raises(IncompleteResponse):
            asyncio.run(read_all(streams.stream_lines(database, new_watch, Follow(batch_id, None))))

    def test_a_server_that_stops_ends_the_streams(self, database: Database, new_watch: BatchWatch) -> None:
        batch_id = insert_batch(database, 1)

        async def follow() -> str:
            parts = []
            async for part in streams.stream_events(database, new_watch, Follow(batch_id, None)):
                parts.append(part)
                if b"progress" in part:
                    new_watch._stopping.set()
            return b"".join(parts).decode()

        text = asyncio.run(asyncio.wait_for(follow(), WAIT_TIMEOUT_SECONDS))

        assert [event.name for event in parse_events(text)] == ["progress"]

    def test_followers_stay_while_the_database_is_unreachable(
        self, database: Database, new_watch: BatchWatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch_id = insert_batch(database, 1)
        failures = iter([False, True, True])

        def sometimes(database: Database, ids: list[str]) -> Any:
            if next(failures, False):
                raise OSError
            return read_states(database, ids)

        monkeypatch.setattr(watch, "read_states", sometimes)

        async def follow() -> str:
            stream = asyncio.create_task(read_all(streams.stream_events(database, new_watch, Follow(batch_id, None))))
            await asyncio.to_thread(fake_worker.end_batch, database, batch_id)
            return await asyncio.wait_for(stream, WAIT_TIMEOUT_SECONDS)

        assert parse_events(asyncio.run(follow()))[-1].name == "end"


class TestAllBatches:
    def test_changes_of_all_batches_of_a_tenant(self, database: Database, new_watch: BatchWatch) -> None:
        mine, theirs = insert_batch(database, 2, tenant="mine"), insert_batch(database, 1)
        ended = insert_batch(database, 1, tenant="mine")
        fake_worker.end_batch(database, ended)

        async def follow() -> list[Event]:
            stream, events = streams.stream_changes(new_watch, "mine"), []
            assert await anext(stream)
            events += parse_events((await anext(stream)).decode())
            for act, batch_id in ((fake_worker.write_results, mine), (fake_worker.end_batch, mine)):
                arguments = ([(0, GOOD)],) if act is fake_worker.write_results else ()
                await asyncio.to_thread(act, database, theirs, *arguments)
                await asyncio.to_thread(act, database, batch_id, *arguments)
                events += parse_events((await asyncio.wait_for(anext(stream), WAIT_TIMEOUT_SECONDS)).decode())
            return events

        events = asyncio.run(follow())

        assert {event.data["id"] for event in events} == {mine}
        assert [event.data["status"] for event in events] == ["in_progress", "in_progress", "completed"]
        assert [event.data["last_seq"] for event in events] == [0, 1, 1]

    def test_a_batch_that_ends_out_of_sight_is_seen(
        self, database: Database, new_watch: BatchWatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(changes, "MAX_NEWEST", 1)
        old = insert_batch(database, 1)
        insert_batch(database, 1)

        async def follow() -> list[Event]:
            stream = streams.stream_changes(new_watch, None)
            await anext(stream)
            await anext(stream)
            await asyncio.to_thread(fake_worker.end_batch, database, old)
            return parse_events((await asyncio.wait_for(anext(stream), WAIT_TIMEOUT_SECONDS)).decode())

        assert [(event.data["id"], event.data["status"]) for event in asyncio.run(follow())] == [(old, "completed")]

    def test_it_needs_the_scope(self, database: Database, database_url: str) -> None:
        with client_over(database, database_url) as api:
            assert api.get("/api/follow", headers=key_headers(database, "mine", Scope.SUBMIT)).status_code == 403


class TestSockets:
    def test_a_client_that_goes_away_is_forgotten(
        self, database: Database, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.02)
        watches: list[BatchWatch] = []
        remember = BatchWatch.__init__

        def remembered(self: BatchWatch, *args: Any) -> None:
            watches.append(self)
            remember(self, *args)

        monkeypatch.setattr(BatchWatch, "__init__", remembered)
        batch_id = insert_batch(database, 1)
        with served(database) as url:
            host, port = url.removeprefix("http://").split(":")
            for path in (f"/api/batches/{batch_id}/follow", "/api/follow"):
                with socket.create_connection((host, int(port))) as client:
                    client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    assert client.recv(100).startswith(b"HTTP/1.1 200")
                    wait_until(lambda: bool(watches[-1]._followers or watches[-1]._list_followers), "it follows")
                wait_until(lambda: not (watches[-1]._followers or watches[-1]._list_followers), "it is forgotten")

        assert "Traceback" not in capfd.readouterr().err

    def test_those_of_one_key_leave_streams_to_others(self, database: Database) -> None:
        greedy, other = (key_headers(database, "mine", Scope.READ)["authorization"] for _ in range(2))
        with served(database, max_client_connections=16) as url, ExitStack() as stack:
            host, port = url.removeprefix("http://").split(":")
            answers = []
            for key in (greedy, greedy, greedy, other):
                client = stack.enter_context(socket.create_connection((host, int(port))))
                client.sendall(f"GET /api/follow HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\n\r\n".encode())
                answers.append(client.recv(12))

        assert answers == [b"HTTP/1.1 200", b"HTTP/1.1 200", b"HTTP/1.1 429", b"HTTP/1.1 200"]
