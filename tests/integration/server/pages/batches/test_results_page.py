"""The table of rows: what it shows, its filters, its addresses, and hostile content."""

import re

import pytest
from starlette.testclient import TestClient

from models.db import Database
from producer.server.pages.batches import results
from producer.tenants.principal import Scope
from tests.factories.batch_rows import execute, insert_batch, update_batch
from tests.factories.page_clients import PART, Page, sign_in_as
from tests.fake_worker import write_results

ROW_LINK = re.compile(r'<a href="/batches/[^"]+/rows/(\d+)">')
PAGER_LINK = re.compile(
    r'<a class="button small" href="([^"]+)"[^>]*>(First|Previous|Newer|Next|Older|Go on searching)'
)


def rows(browser: TestClient, address: str) -> list[int]:
    response = browser.get(address)
    assert response.status_code == 200
    return [int(position) for position in ROW_LINK.findall(response.text)]


def pager(browser: TestClient, address: str) -> dict[str, str]:
    links = PAGER_LINK.findall(browser.get(address).text)
    return {text: link.replace("&amp;", "&") for link, text in links}


QUERIES = ("", "?few=yes", "?outcome=failed")


@pytest.fixture
def batch_id(database: Database) -> str:
    batch_id = insert_batch(database, 12, name="Reviews")
    outputs = [(place, f"code_{place % 2}" if place % 3 == 0 else {"label": "A", "score": 0.75}) for place in range(10)]
    write_results(database, batch_id, outputs)
    return batch_id


def test_a_row_shows_its_input_outcome_and_output(browser: TestClient, batch_id: str) -> None:
    page = Page(browser.get(f"/batches/{batch_id}/results").text)

    assert "Results of Reviews" in page.text
    assert "text 1" in page.text
    assert "0.750" in page.text
    assert "code_1" in page.text
    assert "it could not be answered" in page.text


def test_each_filter_has_its_address(browser: TestClient, batch_id: str, database: Database) -> None:
    execute(database, "UPDATE jobs SET custom_id = 'r-4' WHERE position = 4")
    base = f"/batches/{batch_id}/results"

    assert rows(browser, base) == list(range(10))
    assert rows(browser, f"{base}?outcome=failed") == [0, 3, 6, 9]
    assert rows(browser, f"{base}?code=code_1") == [3, 9]
    assert rows(browser, f"{base}?label=A&from=5") == [5, 7, 8]
    assert rows(browser, f"{base}?outcome=unanswered") == [10, 11]
    assert rows(browser, f"{base}?custom_id=r-4") == [4]
    assert rows(browser, f"{base}?order=newest") == list(range(9, -1, -1))


def test_the_form_shows_the_filter_and_names_the_codes(browser: TestClient, batch_id: str) -> None:
    text = browser.get(f"/batches/{batch_id}/results?code=code_1&from=2").text

    assert '<option value="code_1" selected>' in text
    assert '<option value="code_0">' in text
    assert 'name="from" size="9" maxlength="19" inputmode="numeric" value="2"' in text


def test_pages_are_linked_in_both_directions(
    browser: TestClient, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "PAGE_ROWS", 3)
    base = f"/batches/{batch_id}/results"

    second = pager(browser, base)["Next"]
    third = pager(browser, second)["Next"]
    back = pager(browser, third)["Previous"]

    assert [rows(browser, address) for address in (base, second, third, back)] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [3, 4, 5],
    ]
    assert pager(browser, third)["First"] == f"{base}?"
    assert "Previous" not in pager(browser, base)


def test_the_way_back_ends_in_a_whole_first_page(
    browser: TestClient, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "PAGE_ROWS", 3)

    assert rows(browser, f"/batches/{batch_id}/results?before=2") == [0, 1, 2]


def test_links_keep_the_filter(browser: TestClient, batch_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "PAGE_ROWS", 2)

    address = pager(browser, f"/batches/{batch_id}/results?outcome=failed&order=newest")["Older"]

    assert "outcome=failed" in address
    assert "order=newest" in address
    assert rows(browser, address) == [3, 0]


def test_failures_that_are_shown_can_be_tried_again_at_once(
    browser: TestClient, batch_id: str, database: Database
) -> None:
    link = f'href="/batches/{batch_id}/retry?code=code_1"'
    running = browser.get(f"/batches/{batch_id}/results?code=code_1").text
    update_batch(database, batch_id, status="completed")
    ended = browser.get(f"/batches/{batch_id}/results?code=code_1").text

    assert link not in running
    assert link in ended


def test_a_batch_that_runs_says_when_more_results_land(browser: TestClient, batch_id: str, database: Database) -> None:
    running = browser.get(f"/batches/{batch_id}/results").text
    update_batch(database, batch_id, status="completed")
    ended = browser.get(f"/batches/{batch_id}/results").text

    assert 'data-live-results="10"' in running
    assert "data-live-results" not in ended


def test_the_first_page_says_whether_more_rows_land_there(
    browser: TestClient, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script reads it again only if it is not full, and only if nobody has chosen other rows."""
    monkeypatch.setattr(results, "FEW_ROWS", 5)

    whole, few, chosen = (browser.get(f"/batches/{batch_id}/results{query}").text for query in QUERIES)

    assert 'data-plain-rows="some"' in whole
    assert 'data-plain-rows="full"' in few
    assert "data-plain-rows" not in chosen


def test_htmx_gets_the_table_alone(browser: TestClient, batch_id: str) -> None:
    text = browser.get(f"/batches/{batch_id}/results", headers=PART).text

    assert text.strip().startswith('<div id="results"')
    assert "<html" not in text


def test_a_filter_without_a_match_says_how_to_leave_it(browser: TestClient, batch_id: str) -> None:
    text = browser.get(f"/batches/{batch_id}/results?code=none").text

    assert "No row matches." in text
    assert f'<a href="/batches/{batch_id}/results">Show all rows</a>' in text


def test_a_batch_without_results_offers_its_inputs(browser: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 2)

    assert "No result has landed yet." in browser.get(f"/batches/{batch_id}/results").text


def test_nonsense_in_an_address_is_answered_with_a_sentence(browser: TestClient, batch_id: str) -> None:
    response = browser.get(f"/batches/{batch_id}/results?outcome=<script>&from=-1&after=x")

    assert response.status_code == 200
    assert "There is no outcome" in response.text
    assert "<script>" not in response.text.replace("<script src=", "")


def test_an_unknown_batch_and_one_of_another_tenant_are_not_found(
    browser: TestClient, batch_id: str, database: Database
) -> None:
    update_batch(database, batch_id, tenant="acme")
    sign_in_as(browser, database, "other", Scope.READ)

    for address in ("results", "rows/0", "rows/0/input", "download", "download?format=csv"):
        assert browser.get(f"/batches/{batch_id}/{address}").status_code == 404
        assert browser.get(f"/batches/batch_none/{address}").status_code == 404


def test_hostile_content_is_escaped_and_bounded(browser: TestClient, hostile_batch: str) -> None:
    response = browser.get(f"/batches/{hostile_batch}/results")

    assert response.status_code == 200
    assert "<script>alert" not in response.text
    assert "&lt;script&gt;alert" in response.text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\u200b]", response.text)
    assert "x" * 1_000 not in response.text
    assert len(response.text) < 150_000


@pytest.mark.parametrize("position", range(14))
def test_hostile_rows_are_escaped_and_bounded(browser: TestClient, hostile_batch: str, position: int) -> None:
    response = browser.get(f"/batches/{hostile_batch}/rows/{position}")

    assert response.status_code == 200
    assert "<script>alert" not in response.text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\u200b]", response.text)
    assert len(response.text) < 500_000


def test_the_page_of_a_batch_with_hostile_content_is_escaped_and_bounded(
    browser: TestClient, hostile_batch: str
) -> None:
    response = browser.get(f"/batches/{hostile_batch}")

    assert response.status_code == 200
    assert "<script>alert" not in response.text
    assert len(response.text) < 300_000
