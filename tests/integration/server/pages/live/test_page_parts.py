"""The parts that open pages are sent are those of the pages."""

import re
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import event, insert

from models.db import Database
from models.tables.service import Usage
from producer.schedules import registry
from producer.schedules.definition import ScheduleDefinition
from producer.server.context import ServerContext
from producer.server.pages.live import hub, parts
from producer.server.pages.live.channel import ChannelKey
from producer.server.pages.live.page_parts import PAGES
from producer.server.pages.operations.usage import UsageFilter
from producer.server.pages.schedules.schedule_list import ScheduleFilter
from producer.tenants.principal import OPERATOR, Principal, Scope
from tests.factories.batch_rows import insert_batch
from tests.factories.hostile import HOSTILE_NAME, SCRIPT
from tests.factories.http_server import app_over, client_over
from tests.factories.page_clients import browser_over, sign_in_as
from tests.factories.page_streams import following, next_part
from tests.factories.schedules import insert_run
from tests.factories.served_app import served
from tests.fake_worker import register_worker, write_results

READER = Principal("default", frozenset({Scope.READ}))

RUN_TIME = datetime(2026, 3, 4, 2, tzinfo=UTC)
REMOVED = "removed {{7*7}} & 'quoted' \u202e"  # a pipeline that only batches name
OF_THE_RUN = "/events/schedules/nightly/runs/2026-03-04T02:00:00.000Z"

# The address of a page of each kind with parts, and its subject.
PAGES_OF_KINDS: dict[str, tuple[str, Any]] = {
    "overview": ("/", ""),
    "batch": ("/batches/{batch_id}", "{batch_id}"),
    "schedules": ("/schedules?name=night", ScheduleFilter("night")),
    "schedule": ("/schedules/nightly", "nightly"),
    "run": (OF_THE_RUN.removeprefix("/events"), ("nightly", RUN_TIME)),
    "workers": ("/workers", 1),
    "pipelines": ("/pipelines?q=sentiment", "sentiment"),
    "pipeline": (f"/pipelines/{quote(REMOVED)}", REMOVED),
    "usage": ("/usage?since=7d", UsageFilter("7d")),
}
OF_THE_OPERATOR = {"workers"}


@pytest.fixture
def batch_id(database: Database) -> str:
    """A batch with a result and a failure; there are a schedule with a run, a worker and usage, too."""
    register_worker(database, HOSTILE_NAME)
    fields = {"pipeline": "sample-sentiment-analysis", "cron": "0 2 * * *", "file": "in/{time:%Y-%m-%d}.jsonl"}
    registry.create(database, ScheduleDefinition.from_fields("nightly", fields), datetime.now(UTC))
    insert_run(database, "nightly", RUN_TIME, state="failed", error_code="source_unreachable", error_message=SCRIPT)
    insert_batch(database, 1, pipeline=REMOVED)
    usage = {"day": str(datetime.now(UTC).date()), "tenant": "default", "pipeline": HOSTILE_NAME, "shard": 0}
    amounts = {"succeeded": 9, "failed": 1, "tokens": 5, "padded_tokens": 6, "device_seconds": 3.0}
    with database.write() as connection:
        connection.execute(insert(Usage).values(**usage, **amounts))
    batch_id = insert_batch(database, 4, name=SCRIPT, pipeline=HOSTILE_NAME)
    write_results(database, batch_id, [(0, {"label": "A", "score": 0.5}), (1, "out_of_memory")])
    return batch_id


def test_each_kind_with_parts_is_tested() -> None:
    assert set(PAGES_OF_KINDS) == {kind for kind, page in PAGES.items() if page.parts}


@pytest.mark.parametrize("kind", PAGES_OF_KINDS)
@pytest.mark.parametrize("principal", [OPERATOR, READER], ids=["operator", "reader"])
def test_each_part_can_be_rendered_alone(database: Database, batch_id: str, kind: str, principal: Principal) -> None:
    context = app_over(database, database.url).state.context
    subject = PAGES_OF_KINDS[kind][1]

    opened = PAGES[kind].open(context, principal, batch_id if kind == "batch" else subject)
    for part in PAGES[kind].parts:
        html = parts.render_part(
            part.template, parts.audience_of(principal), "/", part.read(context, principal, opened)
        )
        assert "<script" not in html
        assert "csrf" not in html


@pytest.mark.parametrize("kind", PAGES_OF_KINDS)
def test_a_page_has_an_element_for_each_of_its_parts(database: Database, batch_id: str, kind: str) -> None:
    with client_over(database, database.url) as client:
        html = client.get(PAGES_OF_KINDS[kind][0].format(batch_id=batch_id)).text

    assert set(re.findall(r'data-live="(?!row-)([^"]+)"', html)) == {part.name for part in PAGES[kind].parts}
    assert 'data-live-stream="/events/' in html


@pytest.mark.parametrize("kind", [kind for kind in PAGES_OF_KINDS if kind not in OF_THE_OPERATOR])
def test_a_tenant_s_stream_has_the_parts_of_its_page_alone(database: Database, batch_id: str, kind: str) -> None:
    """What the page leaves out, such as the hosts of workers, is not for a reader of the stream either."""
    app = app_over(database, database.url)
    with browser_over(app) as client:
        sign_in_as(client, database, READER.tenant, *READER.scopes)
        html = client.get(PAGES_OF_KINDS[kind][0].format(batch_id=batch_id)).text

    key = ChannelKey(kind, PAGES_OF_KINDS[kind][1], "/", parts.audience_of(READER))
    channel = hub.LiveHub(app.state.context)._open(key)
    assert set(re.findall(r'data-live="(?!row-)([^"]+)"', html)) == channel._paces.keys()


@pytest.mark.parametrize("kind", PAGES_OF_KINDS)
def test_the_parts_of_a_page_are_those_of_its_stream(
    database: Database, batch_id: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream's filter is that of the page, so that a live page goes on to show what was chosen."""
    opened: list[Any] = []
    page = PAGES[kind]

    def open_page(context: ServerContext, principal: Principal, subject: Any) -> Any:
        opened.append(subject)
        return page.open(context, principal, subject)

    monkeypatch.setattr(hub, "PAGES", {**PAGES, kind: replace(page, open=open_page)})
    address, subject = PAGES_OF_KINDS[kind]
    with served(database) as server:
        with urllib.request.urlopen(server + address.format(batch_id=batch_id)) as response:
            html = response.read().decode()
        stream = unescape(re.search(r'data-live-stream="([^"]+)"', html)[1])
        with following(server, stream) as events:
            names = {next_part(events)["name"] for _ in page.parts}

    assert names == {part.name for part in page.parts}
    assert set(opened) == {batch_id if kind == "batch" else subject}


@pytest.mark.parametrize("kind", OF_THE_OPERATOR)
def test_a_tenant_has_no_stream_of_the_operators_pages(database: Database, kind: str) -> None:
    with browser_over(app_over(database, database.url)) as client:
        sign_in_as(client, database, "acme", Scope.READ, Scope.ADMIN)
        assert client.get(f"/events/{kind}").status_code == 403


@pytest.mark.parametrize(
    "path", ["/events/pipelines/nobody-has-it", "/events/schedules/nightly/runs/2026-03-05T02:00Z", OF_THE_RUN]
)
def test_what_a_tenant_may_not_see_has_no_stream(database: Database, batch_id: str, path: str) -> None:
    with browser_over(app_over(database, database.url)) as client:
        sign_in_as(client, database, "acme", Scope.READ)
        assert client.get(path).status_code == 404
        assert client.get(f"/events/pipelines/{quote(REMOVED)}").status_code == 404


@pytest.mark.parametrize("path", ["/submit", "/doctor", "/keys"])
def test_other_pages_follow_the_connection(database: Database, path: str) -> None:
    with client_over(database, database.url) as client:
        html = client.get(path).text

    assert 'data-live-pulse="/events/pulse"' in html
    assert "data-live-stream" not in html


def test_the_page_of_a_batch_reads_it_once(database: Database) -> None:
    batch_id = insert_batch(database, 4)
    write_results(database, batch_id, [(0, {"label": "A", "score": 0.5}), (1, "out_of_memory")])
    statements: list[str] = []

    with client_over(database, database.url) as client:
        event.listen(database.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
        for address in (f"/batches/{batch_id}", f"/batches/{batch_id}/results", f"/batches/{batch_id}/rows/1"):
            statements.clear()
            assert client.get(address).status_code == 200
            assert sum("WITH records AS" in statement for statement in statements) == 1  # the sum over all its slices


def test_failures_are_counted_once_for_all_who_look_at_the_rows(database: Database) -> None:
    batch_id = insert_batch(database, 4)
    write_results(database, batch_id, [(0, {"label": "A"}), (1, "out_of_memory")])
    counts: list[str] = []

    with client_over(database, database.url) as client:
        event.listen(
            database.engine,
            "before_cursor_execute",
            lambda *call: counts.append(call[2]) if "has_attempt" in call[2] else None,
        )
        pages = [client.get(f"/batches/{batch_id}/results").text for _ in range(2)]
        before = len(counts)
        write_results(database, batch_id, [(2, "text_too_long")])
        pages.append(client.get(f"/batches/{batch_id}/results").text)

    assert before == 1
    assert len(counts) == 2
    assert ["text_too_long" in page for page in pages] == [False, False, True]
