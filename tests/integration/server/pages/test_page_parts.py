"""The parts that open pages are sent are those of the pages."""

import re

import pytest
from sqlalchemy import event

from models.db import Database
from producer.server.pages.live import parts
from producer.server.pages.live.page_parts import PAGES
from producer.tenants.principal import OPERATOR, Principal, Scope
from tests.factories.batch_rows import insert_batch
from tests.factories.http_server import app_over, client_over
from tests.fake_worker import write_results

READER = Principal("default", frozenset({Scope.READ}))


@pytest.mark.parametrize("kind", ["overview", "batch"])
@pytest.mark.parametrize("principal", [OPERATOR, READER], ids=["operator", "reader"])
def test_each_part_can_be_rendered_alone(database: Database, kind: str, principal: Principal) -> None:
    batch_id = insert_batch(database, 4, name="<script>alert(1)</script>")
    write_results(database, batch_id, [(0, {"label": "A", "score": 0.5}), (1, "out_of_memory")])
    context = app_over(database, database.url).state.context

    opened = PAGES[kind].open(context, principal, batch_id)
    for part in PAGES[kind].parts:
        html = parts.render_part(
            part.template, parts.audience_of(principal), "/", part.read(context, principal, opened)
        )
        assert "<script" not in html
        assert "csrf" not in html


@pytest.mark.parametrize("kind", ["overview", "batch"])
def test_a_page_has_an_element_for_each_of_its_parts(database: Database, kind: str) -> None:
    batch_id = insert_batch(database, 4)

    with client_over(database, database.url) as client:
        html = client.get("/" if kind == "overview" else f"/batches/{batch_id}").text

    assert set(re.findall(r'data-live="(?!row-)([^"]+)"', html)) == {part.name for part in PAGES[kind].parts}
    assert 'data-live-stream="/events/' in html


@pytest.mark.parametrize("path", ["/submit", "/schedules", "/pipelines", "/workers"])
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
