"""The list of batches as a page: what it shows, its filters and its addresses."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from models.db import Database
from producer.batches import batch_pages
from producer.server.pages.batches import batch_list
from tests import fake_worker
from tests.factories.batch_rows import insert_batch, update_batch
from tests.factories.hostile import HOSTILE, HOSTILE_NAME, assert_shown_as_text
from tests.factories.http_server import client_over

ROW = re.compile(r'<a class="cut" href="/batches/([^"]+)"')


@pytest.fixture
def pages(database: Database, database_url: str) -> Iterator[TestClient]:
    with client_over(database, database_url) as client:
        yield client


def listed(pages: TestClient, address: str) -> list[str]:
    response = pages.get(address)
    assert response.status_code == 200
    return ROW.findall(response.text)


def test_an_empty_list_says_how_to_begin(pages: TestClient) -> None:
    text = pages.get("/batches").text

    assert "No batch yet." in text
    assert 'href="/submit"' in text


def test_a_row_shows_the_batch(pages: TestClient, database: Database) -> None:
    batch_id = insert_batch(
        database, 10, name="nightly", pipeline="reviews", created_at=datetime.now(UTC) - timedelta(hours=5, minutes=30)
    )
    fake_worker.write_results(database, batch_id, [(0, {}), (1, "empty_text")])

    text = pages.get("/batches").text

    assert f'href="/batches/{batch_id}"' in text
    assert "20.0 % ended, 1 failed" in text
    assert f'href="/batches/{batch_id}#failures">1</a>' in text
    assert "5 h ago" in text


def test_filters_stand_in_the_address(pages: TestClient, database: Database) -> None:
    first = insert_batch(database, 1, name="nightly one", pipeline="p", tenant="acme", created_at=datetime.now(UTC))
    second = insert_batch(database, 1, name="other", pipeline="q", created_at=datetime.now(UTC) - timedelta(days=3))
    third = insert_batch(database, 1, name="third", pipeline="q", created_at=datetime.now(UTC) - timedelta(days=4))
    update_batch(database, second, status="completed")
    update_batch(database, third, status="failed")

    assert listed(pages, "/batches") == [first, second, third]
    assert listed(pages, "/batches?status=completed&status=failed") == [second, third]
    assert listed(pages, "/batches?status=nonsense") == [first, second, third]
    assert listed(pages, "/batches?pipeline=p") == [first]
    assert listed(pages, "/batches?tenant=acme") == [first]
    assert listed(pages, "/batches?q=NIGHT") == [first]
    assert listed(pages, "/batches?q=o*th*r") == [second]
    assert listed(pages, f"/batches?q={third}") == [third]
    assert listed(pages, "/batches?since=1h") == [first]
    assert listed(pages, "/batches?until=84h") == [third]
    assert 'value="completed" checked' in pages.get("/batches?status=completed").text
    assert "<option selected>gone</option>" in pages.get("/batches?pipeline=gone").text


def test_a_filter_that_finds_nothing_offers_all(pages: TestClient, database: Database) -> None:
    insert_batch(database, 1)

    text = pages.get("/batches?q=nothing").text

    assert "No batch matches." in text
    assert '<a href="/batches">Show all batches</a>' in text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("since=yesterday", "is not a time"),
        ("until=2026-02-30", "is not a time"),
        ("older=x", "is no place in the list"),
    ],
)
def test_a_value_that_can_not_be_used_is_named(pages: TestClient, database: Database, query: str, words: str) -> None:
    batch_id = insert_batch(database, 1)

    assert words in pages.get(f"/batches?{query}").text
    assert listed(pages, f"/batches?{query}") == [batch_id]


def test_more_batches_come_by_links(pages: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_list, "PAGE_BATCHES", 2)
    ids = [
        insert_batch(database, 1, pipeline="p", created_at=datetime.now(UTC) - timedelta(hours=hour))
        for hour in range(5)
    ]

    first_page = pages.get("/batches?pipeline=p").text
    more = re.search(r'hx-get="(/batches/more\?[^"]+)"', first_page)
    older = re.search(r'href="(/batches\?[^"]+)" rel="next"', first_page)
    assert more is not None
    assert older is not None
    rows = pages.get(more[1].replace("&amp;", "&")).text
    second_page = pages.get(older[1].replace("&amp;", "&")).text
    newer = re.search(r'href="(/batches\?[^"]+)" rel="prev"', second_page)

    assert ROW.findall(first_page) == ids[:2]
    assert ROW.findall(rows) == ROW.findall(second_page) == ids[2:4]
    assert "<html" not in rows
    assert newer is not None
    assert listed(pages, newer[1].replace("&amp;", "&")) == ids[:2]


def test_a_search_that_stops_says_so(pages: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_pages, "MAX_SEARCHED", 2)
    ids = [
        insert_batch(database, 1, name=f"n{hour}", created_at=datetime.now(UTC) - timedelta(hours=hour))
        for hour in range(4)
    ]

    text = pages.get("/batches?q=n3").text
    link = re.search(r'<a href="(/batches\?[^"]+)">Search older ones', text)

    assert "None of the 2 batches that were searched matches." in text
    assert link is not None
    assert listed(pages, link[1].replace("&amp;", "&")) == ids[3:]


def test_hostile_names_are_text(pages: TestClient, database: Database) -> None:
    insert_batch(database, 1, name=HOSTILE, pipeline=HOSTILE, tenant="acme")

    text = pages.get("/batches").text + pages.get("/batches", params={"q": HOSTILE_NAME, "pipeline": HOSTILE_NAME}).text

    assert_shown_as_text(pages.get("/batches").text)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "x" * 500 not in text
    assert pages.get("/batches?q=%00&older=%00&newer=%ff&since=%00").status_code == 200
