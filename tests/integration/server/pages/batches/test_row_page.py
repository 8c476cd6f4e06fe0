"""The page of one row: its documents, its history, its neighbours and what can be done."""

from starlette.testclient import TestClient

from models.db import Database
from models.states import BatchStatus
from producer.batches.actions import retry
from producer.batches.actions.retry import RetrySelection
from producer.tenants.principal import Scope
from tests.factories.batch_rows import execute, insert_batch, update_batch
from tests.factories.page_clients import Page, sign_in_as
from tests.fake_worker import end_batch, write_results


def failed_batch(database: Database) -> str:
    batch_id = insert_batch(database, 5)
    write_results(database, batch_id, [(0, {"label": "A", "score": 0.5}), (1, "out_of_memory"), (3, "empty_text")])
    update_batch(database, batch_id, cancelled=2)
    end_batch(database, batch_id, BatchStatus.COMPLETED)
    return batch_id


def test_a_failed_row_says_why_and_offers_a_retry(browser: TestClient, database: Database) -> None:
    batch_id = failed_batch(database)

    text = browser.get(f"/batches/{batch_id}/rows/1").text

    assert "Out of memory" in text
    assert "it could not be answered" in text
    assert f'href="/batches/{batch_id}/retry?position=1&amp;outcome=failed"' in text
    assert f'href="/batches/{batch_id}/rows/0">Previous</a>' in text
    assert f'href="/batches/{batch_id}/rows/3">Next failed</a>' in text


def test_an_invalid_row_is_sent_to_repair(browser: TestClient, database: Database) -> None:
    batch_id = failed_batch(database)
    execute(database, "UPDATE jobs SET invalid = true WHERE position = 3")

    text = browser.get(f"/batches/{batch_id}/rows/3").text

    assert "Put a corrected one in its place below." in text
    assert f'action="/batches/{batch_id}/rows/3/repair"' in text
    assert 'class="notice bad row-failure"' in text
    assert "Retry this row" not in text


def test_a_reader_is_offered_no_retry(browser: TestClient, database: Database) -> None:
    batch_id = failed_batch(database)
    sign_in_as(browser, database, None, Scope.READ)

    assert "Retry this row" not in browser.get(f"/batches/{batch_id}/rows/1").text


def test_a_row_without_a_result_says_what_it_waits_for(browser: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 2)

    text = browser.get(f"/batches/{batch_id}/rows/1").text

    assert "No worker has claimed its slice yet." in text
    assert "text 1" in text


def test_a_replaced_result_stands_in_the_history(browser: TestClient, database: Database) -> None:
    batch_id = failed_batch(database)
    retry.retry_jobs(database, batch_id, RetrySelection(codes=("out_of_memory",)), 4)
    write_results(database, batch_id, [(1, {"label": "SECOND", "score": 0.5})])

    page = Page(browser.get(f"/batches/{batch_id}/rows/1").text)

    assert "replaced result" in page.text
    assert "out_of_memory" in page.text
    assert "SECOND" in page.text


def test_a_generated_text_says_its_tokens_and_whether_it_was_cut_off(browser: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 3)
    write_results(database, batch_id, [(place, [{"generated_text": "yes"}]) for place in range(3)])
    tokens = (
        "UPDATE results SET input_tokens = 1234, output_tokens = 56, finish_reason = :reason WHERE position = :place"
    )
    for place, reason in enumerate(("length", "stop")):
        execute(database, tokens, reason=reason, place=place)

    cut, whole, older = (Page(browser.get(f"/batches/{batch_id}/rows/{place}").text).text for place in range(3))

    assert "1,234 read, 56 generated" in cut
    assert "Raise max_new_tokens" in cut
    assert "1,234 read, 56 generated" in whole
    assert "ended by itself" in whole
    assert "Raise max_new_tokens" not in whole
    assert "Tokens" not in older


def test_a_row_links_to_where_it_came_from(browser: TestClient, database: Database) -> None:
    source, batch_id = insert_batch(database, 9), insert_batch(database, 2)
    update_batch(database, source, tenant="acme")
    for origin in (source, "batch_deleted"):
        statement = "UPDATE jobs SET source_batch_id = :origin, source_position = 7 WHERE batch_id = :id"
        execute(database, statement, origin=origin, id=batch_id)
        text = browser.get(f"/batches/{batch_id}/rows/0").text

        assert (f'href="/batches/{origin}/rows/7"' in text) == (origin == source)
        assert f"position 7 of {origin}" in text


def test_a_long_document_is_cut_with_a_link_to_all_of_it(browser: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, [{"text": "<b>" + "y" * 300_000}])

    page = browser.get(f"/batches/{batch_id}/rows/0")
    whole = browser.get(f"/batches/{batch_id}/rows/0/input")

    assert len(page.text) < 100_000
    assert f'href="/batches/{batch_id}/rows/0/input">Show all</a>' in page.text
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert len(whole.text) > 300_000


def test_what_a_job_lacks_is_not_found(browser: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 1)

    for address in ("rows/1", "rows/0/output", "rows/0/secrets", f"rows/{2**63 - 1}"):
        assert browser.get(f"/batches/{batch_id}/{address}").status_code == 404
    assert browser.get(f"/batches/{batch_id}/rows/{2**63}").status_code in (400, 404)
    assert browser.get(f"/batches/{batch_id}/rows/-1").status_code in (400, 404)
