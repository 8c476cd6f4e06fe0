import asyncio
import http.client
import threading
import urllib.parse
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from anyio import CapacityLimiter
from jinja2 import ChoiceLoader, DictLoader
from sqlalchemy import delete

from models.db import Database
from models.errors import Unreachable
from models.tables.batches import Batch
from producer.batches import views
from producer.batches.batch_view import BatchView
from producer.batches.changes import read_states
from producer.server.context import ServerContext
from producer.server.following import watch
from producer.server.pages.frame import rendering
from producer.server.pages.frame.formats import now_milliseconds
from producer.server.pages.live import batch_rows, hub, streams
from producer.server.pages.live.batch_rows import BatchRowsChannel
from producer.server.pages.live.changes import no_changes
from producer.server.pages.live.channel import Change, ChannelKey
from producer.server.pages.live.followers import PageFollower
from producer.server.pages.live.parts import LivePage, LivePart, audience_of
from producer.tenants.principal import OPERATOR, Principal, Scope
from tests.factories.batch_rows import insert_batch, update_batch
from tests.factories.hostile import SCRIPT
from tests.factories.http_server import key_headers
from tests.factories.page_streams import following, next_part
from tests.factories.served_app import app_over, served
from tests.fake_worker import end_batch, write_results
from tests.servers import wait_until

TEMPLATE = "<b>{{ batch.counts.ended }}</b>{% if visitor.may_submit %}<i>{{ batch.name }}</i>{% endif %}"
MAX_SECONDS = 90.0


@pytest.fixture
def renderings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the page of a batch one part; returns the ids of the batches that it was rendered for."""
    rendered: list[str] = []

    def read(_context: ServerContext, _principal: Principal, batch: BatchView) -> Mapping[str, Any]:
        rendered.append(batch.id)
        return {"batch": batch}

    part = LivePart("counts", "test/_counts.html", read, seconds=0.1)
    pages = {**hub.PAGES, "batch": LivePage(ServerContext.get_batch, (part,))}
    monkeypatch.setattr(hub, "PAGES", pages)
    add_template(monkeypatch, part.template, TEMPLATE)
    return rendered


def add_template(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """Add a template for this test."""
    templates = rendering.environment()
    assert templates.loader is not None
    monkeypatch.setattr(templates, "loader", ChoiceLoader([DictLoader({name: text}), templates.loader]))


def status_of(address: str) -> int:
    """Return the status of a response without following it to another page."""
    url = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(url.netloc, timeout=MAX_SECONDS)
    try:
        connection.request("GET", f"{url.path}?{url.query}")
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_page_gets_its_part_and_then_each_change(database: Database, renderings: list[str]) -> None:
    batch_id = insert_batch(database, 3, name=SCRIPT)

    with served(database) as address, following(address, f"/events/batches/{batch_id}") as events:
        assert next(events)[0] == "hello"
        first = next_part(events)
        write_results(database, batch_id, [(0, {"label": "A"})])
        second = next_part(events)

    assert first["name"] == "counts"
    assert first["html"] == "<b>0</b><i>&lt;script&gt;alert(1)&lt;/script&gt;</i>"
    assert second["html"].startswith("<b>1</b>")
    assert second["at"] > first["at"]


def test_pages_of_one_audience_share_their_renderings(database: Database, renderings: list[str]) -> None:
    batch_id = insert_batch(database, 3)
    path = f"/events/batches/{batch_id}"

    with served(database) as address, following(address, path) as events:
        next_part(events)
        with following(address, path) as others:
            assert next_part(others)["html"].startswith("<b>0</b>")  # as it was rendered before
            write_results(database, batch_id, [(0, {"label": "A"})])
            assert next_part(others) == next_part(events)

    assert len(renderings) == 2


def test_parts_that_are_due_together_read_their_batch_once(
    database: Database, renderings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_batch(context: ServerContext, principal: Principal, batch_id: str) -> BatchView:
        opened.append(batch_id)
        return context.get_batch(principal, batch_id)

    (part,) = hub.PAGES["batch"].parts
    twice = (part, replace(part, name="again"))
    monkeypatch.setattr(hub, "PAGES", {"batch": LivePage(open_batch, twice)})
    batch_id = insert_batch(database, 3)

    with served(database) as address, following(address, f"/events/batches/{batch_id}") as events:
        names = {next_part(events)["name"] for _ in twice}

    assert names == {"counts", "again"}
    assert opened == [batch_id]
    assert renderings == [batch_id, batch_id]


def test_a_page_without_parts_gets_signs_of_life(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BEAT_SECONDS", 0.1)

    with served(database) as address, following(address, "/events/pulse") as events:
        names = [next(events)[0] for _ in range(3)]

    assert names == ["hello", "beat", "beat"]


def test_a_page_that_is_up_to_date_is_sent_nothing(
    database: Database, renderings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BEAT_SECONDS", 0.2)
    batch_id = insert_batch(database, 3)
    path = f"/events/batches/{batch_id}"

    with served(database) as address, following(address, path) as events:
        since = next_part(events)["at"]
        with following(address, f"{path}?since={since + 1}") as others:
            names = [next(others)[0] for _ in range(3)]

    assert names == ["hello", "beat", "beat"]


def test_the_state_of_a_batch_says_how_many_results_it_has(database: Database, renderings: list[str]) -> None:
    batch_id = insert_batch(database, 1)

    with served(database) as address, following(address, f"/events/batches/{batch_id}") as events:
        next_part(events)
        write_results(database, batch_id, [(0, {"label": "A"})])
        end_batch(database, batch_id)
        states = (document for name, document in events if name == "state")
        last = next(state for state in states if state["status"] == "completed")

    assert last["last_seq"] == 1


def test_a_deleted_batch_ends_the_stream(database: Database, renderings: list[str]) -> None:
    batch_id = insert_batch(database, 1)

    with served(database) as address, following(address, f"/events/batches/{batch_id}") as events:
        next_part(events)
        with database.write() as connection:
            connection.execute(delete(Batch).where(Batch.id == batch_id))
        names = [name for name, _ in events]

    assert names[-1] == "gone"


def test_the_list_gets_the_rows_that_it_shows_and_names_of_new_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_rows, "TEMPLATE", "test/_rows.html")
    monkeypatch.setattr(batch_rows, "SECONDS", 0.1)
    add_template(
        monkeypatch, "test/_rows.html", "<tr><td>{{ batches[0].name }} {{ batches[0].counts.ended }}</td></tr>"
    )
    shown, other = insert_batch(database, 2, name=SCRIPT), insert_batch(database, 2)

    with served(database) as address, following(address, f"/events/batches?rows={shown}") as events:
        next(events)
        write_results(database, other, [(0, {"label": "A"})])
        write_results(database, shown, [(0, {"label": "A"})])
        rows = (document for name, document in events if name == "part")
        row = next(row for row in rows if " 1<" in row["html"])
        added = insert_batch(database, 1)
        new = next(document for name, document in events if name == "new")

    assert row["name"] == f"row-{shown}"
    assert row["html"] == "<tr><td>&lt;script&gt;alert(1)&lt;/script&gt; 1</td></tr>"
    assert new["ids"] == [added]


def test_a_row_that_ended_before_its_page_had_a_stream_is_sent(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_rows, "TEMPLATE", "test/_rows.html")
    add_template(monkeypatch, "test/_rows.html", "<tr><td>{{ batches[0].status }}</td></tr>")
    long_ago, just_now = insert_batch(database, 1), insert_batch(database, 1)
    for batch_id in (long_ago, just_now):
        end_batch(database, batch_id)
    update_batch(database, long_ago, completed_at=datetime(2026, 1, 1, tzinfo=UTC))
    since = now_milliseconds()
    path = f"/events/batches?since={since}&rows={long_ago},{just_now}"

    with served(database) as address, following(address, path) as events:
        first = next_part(events)
        with following(address, path) as others:
            second = next_part(others)

    assert (first["name"], first["html"]) == (f"row-{just_now}", "<tr><td>completed</td></tr>")
    assert second["name"] == first["name"]


def test_a_time_that_no_page_has_makes_no_trouble(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_rows, "TEMPLATE", "test/_rows.html")
    add_template(monkeypatch, "test/_rows.html", "<tr></tr>")
    batch_id = insert_batch(database, 1)

    with served(database) as address, following(address, f"/events/batches?since={2**53}&rows={batch_id}") as events:
        name, document = next(item for item in events if item[0] in ("part", "trouble"))

    assert (name, document.get("name")) == ("part", f"row-{batch_id}")


def test_a_batch_that_ended_before_its_page_had_a_stream_is_told(database: Database, renderings: list[str]) -> None:
    batch_id = insert_batch(database, 1)
    path = f"/events/batches/{batch_id}"

    with served(database) as address, following(address, path) as events:
        next_part(events)
        write_results(database, batch_id, [(0, {"label": "A"})])
        end_batch(database, batch_id)
        own = (document for name, document in events if name == "state")
        last = next(state for state in own if state["status"] == "completed")
        with following(address, path) as others:
            told = next(document for name, document in others if name == "state")

    assert told == last


def test_a_failing_part_is_said_and_comes_later(
    database: Database, renderings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = insert_batch(database, 3)
    monkeypatch.setattr("producer.server.pages.live.channel.TROUBLE_SECONDS", 0.1)
    read, failures = views.get_batch, [OSError("disk")]

    def fail_once(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return read(*arguments)

    monkeypatch.setattr(views, "get_batch", fail_once)

    with served(database) as address, following(address, f"/events/batches/{batch_id}") as events:
        names = (name for name, _ in events if name != "state")
        first, second, *others = [next(names) for _ in range(4)]

    assert (first, second) == ("hello", "trouble")
    assert set(others) == {"part", "fine"}


def test_an_outage_is_said_although_nothing_is_due(
    database: Database, renderings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = insert_batch(database, 3)
    monkeypatch.setattr("producer.server.pages.live.channel.TROUBLE_SECONDS", 0.1)
    is_down, read_states = threading.Event(), watch.read_states

    def read(*arguments: Any) -> Any:
        if is_down.is_set():
            raise Unreachable("the database does not answer")
        return read_states(*arguments)

    monkeypatch.setattr(watch, "read_states", read)

    with served(database) as address, following(address, f"/events/batches/{batch_id}") as events:
        next_part(events)
        is_down.set()
        trouble = next(data for name, data in events if name == "trouble")
        is_down.clear()
        fine = next(data for name, data in events if name == "fine")

    assert trouble == {"code": "unreachable"}
    assert set(fine) == {"at"}


def test_a_row_that_changed_before_an_outage_is_not_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = insert_batch(database, 3)
    context, outages = app_over(database, database.url).state.context, [Unreachable("the database does not answer")]

    def check() -> None:
        if outages:
            raise outages.pop()

    async def show() -> bytes:
        arguments = (hub.PAGES["batches"], no_changes(asyncio.Event()), CapacityLimiter(1), lambda: 1)
        channel = BatchRowsChannel(context, ChannelKey("batches", "", "/batches", audience_of(OPERATOR)), *arguments)
        follower = PageFollower(0, [batch_id])
        channel.followers.add(follower)
        for states in (tuple(read_states(database, [batch_id]).values()), ()):
            await channel._show(Change(states=states))
        return await follower.take(0)

    monkeypatch.setattr(context.watch, "check", check)

    assert f"row-{batch_id}" in asyncio.run(show()).decode()
    assert not outages


@pytest.mark.parametrize(
    "path", ["/events/overview", "/events/batches", "/events/batches/{id}", "/events/pulse", "/events/check"]
)
def test_streams_need_a_session_once_there_are_keys(database: Database, path: str) -> None:
    batch_id = insert_batch(database, 1)
    key_headers(database, "a", Scope.READ)

    with served(database) as address:
        assert status_of(address + path.format(id=batch_id)) in (303, 401)


def test_an_unknown_batch_has_no_stream(database: Database) -> None:
    with served(database) as address:
        assert status_of(f"{address}/events/batches/unknown") == 404


def test_streams_leave_connections_to_other_requests(database: Database) -> None:
    batch_id = insert_batch(database, 1)
    with served(database, max_client_connections=8) as address:
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(following(address, "/events/overview"))
            paths = ("/events/overview", "/events/check", "/api/follow", f"/api/batches/{batch_id}/wait")
            assert {status_of(address + path) for path in paths} == {429}
            assert status_of(f"{address}/batches") == 200
        wait_until(lambda: status_of(f"{address}/events/check") == 204, "the streams to be forgotten")
