"""Retry, cancel and delete: each shows first exactly what it affects, and does it only with the session's token."""

from datetime import UTC, datetime
from threading import Event
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from models.db import Database
from models.states import BatchStatus, JobOutcome
from producer.batches import failure_counts, views
from producer.batches.actions import delete as deleting
from producer.server.native.batches import long_acts
from producer.server.pages.batches import actions, retries
from producer.tenants.principal import Scope
from tests.factories.batch_rows import execute, insert_batch, update_batch
from tests.factories.page_clients import PART, Page, csrf_token, sign_in_as
from tests.fake_worker import end_batch, register_worker, write_results
from tests.servers import WAIT_TIMEOUT_SECONDS, wait_until


def post(browser: TestClient, address: str, **fields: Any) -> Response:
    return browser.post(address, data={"csrf_token": csrf_token(browser), **fields})


@pytest.fixture
def batch_id(database: Database) -> str:
    """An ended batch: 3 out of memory, 2 too long, 1 invalid, 2 succeeded."""
    batch_id = insert_batch(database, 8, name="Reviews")
    codes = ["out_of_memory"] * 3 + ["input_too_long"] * 2 + ["empty_text"]
    write_results(database, batch_id, [*enumerate(codes), (6, {"label": "A"}), (7, {"label": "A"})])
    execute(database, "UPDATE results SET attempts = 0 WHERE position = 5")
    execute(database, "UPDATE jobs SET invalid = true WHERE position = 5")
    end_batch(database, batch_id, BatchStatus.COMPLETED)
    return batch_id


def unanswered(database: Database, batch_id: str) -> int:
    return views.get_batch(database, batch_id).counts.unanswered


def test_a_retry_of_a_code_says_how_many_jobs_and_runs_them(
    browser: TestClient, database: Database, batch_id: str
) -> None:
    address = f"/batches/{batch_id}/retry"
    question = Page(browser.get(f"{address}?code=out_of_memory").text)

    answer = post(browser, address, code="out_of_memory", outcome="failed")

    assert "Retry 3 jobs?" in question.text
    assert "input_too_long" not in question.text
    assert (answer.status_code, answer.headers["location"]) == (303, f"/batches/{batch_id}")
    assert unanswered(database, batch_id) == 3
    assert views.get_batch(database, batch_id).status is BatchStatus.IN_PROGRESS


def test_a_retry_of_all_says_which_codes_are_worth_it(browser: TestClient, batch_id: str) -> None:
    html = browser.get(f"/batches/{batch_id}/retry").text
    boxes = {box["value"]: "checked" in box for box in Page(html).all("input") if box.get("type") == "checkbox"}

    assert boxes == {"out_of_memory": True, "input_too_long": False}
    assert "yes, it may" in html
    assert "no, it fails again" in html
    assert "1 row was invalid when submitted" in html
    assert f'href="/batches/{batch_id}/repair"' in html


def test_more_failures_than_are_counted_are_named_as_a_bound(
    browser: TestClient, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_counts.count_failures, "__defaults__", (4,))

    every = Page(browser.get(f"/batches/{batch_id}/retry").text)
    some = Page(browser.get(f"/batches/{batch_id}/retry?code=out_of_memory").text)

    assert "Retry up to 6 jobs?" in every.text
    assert "Retry at least 3 jobs?" in some.text
    assert not [box for box in every.all("input") if box.get("type") == "checkbox"]


def test_the_codes_that_are_ticked_run_again(browser: TestClient, database: Database, batch_id: str) -> None:
    fields = {"choose": "yes", "outcome": "failed"}

    nothing = post(browser, f"/batches/{batch_id}/retry", **fields)
    both = post(browser, f"/batches/{batch_id}/retry", **fields, code=["out_of_memory", "input_too_long"])

    assert nothing.status_code == 400
    assert "choose at least one" in nothing.text
    assert "Retry which jobs?" not in nothing.text
    assert "checked" not in {name for box in Page(nothing.text).all("input") for name in box}
    assert both.status_code == 303
    assert unanswered(database, batch_id) == 5


def test_the_page_after_a_retry_says_what_happened(browser: TestClient, batch_id: str) -> None:
    post(browser, f"/batches/{batch_id}/retry", outcome="failed")

    assert "5 jobs run again." in browser.get("/batches").text


def test_one_row_runs_again(browser: TestClient, database: Database, batch_id: str) -> None:
    question = browser.get(f"/batches/{batch_id}/retry?position=1", headers=PART)

    answer = post(browser, f"/batches/{batch_id}/retry", position="1", outcome="failed")

    assert "<html" not in question.text
    assert "Retry the job at position 1?" in question.text
    assert answer.headers["location"] == f"/batches/{batch_id}/rows/1"
    assert unanswered(database, batch_id) == 1


@pytest.mark.parametrize(("position", "sentence"), [(5, "invalid when it was submitted"), (6, "succeeded already")])
def test_a_row_that_can_not_run_again_says_why(
    browser: TestClient, batch_id: str, position: int, sentence: str
) -> None:
    page = Page(browser.get(f"/batches/{batch_id}/retry?position={position}").text)

    assert "This job can't be retried" in page.text
    assert sentence in page.text


@pytest.mark.parametrize("query", ["", "?code=out_of_memory", "?position=0"])
def test_a_retry_that_no_worker_can_run_says_so(
    browser: TestClient, database: Database, batch_id: str, query: str
) -> None:
    pipeline = views.get_batch(database, batch_id).pipeline
    alone = Page(browser.get(f"/batches/{batch_id}/retry{query}").text)
    register_worker(database, pipeline)
    execute(database, "UPDATE workers SET revision = 'new', state = 'ready'")
    update_batch(database, batch_id, revision="old")
    other = Page(browser.get(f"/batches/{batch_id}/retry{query}").text)
    update_batch(database, batch_id, revision="new")
    served = Page(browser.get(f"/batches/{batch_id}/retry{query}").text)

    assert "the batch would wait: no worker serves" in alone.text
    assert "the batch would wait: it waits for a worker with revision old" in other.text
    assert "would wait" not in served.text


def test_a_cancellation_names_the_batch(browser: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 3, name="monday")

    assert "Cancel monday?" in Page(browser.get(f"/batches/{batch_id}/cancel").text).text


def test_jobs_that_were_cancelled_run_again(browser: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 3)
    post(browser, f"/batches/{batch_id}/cancel")
    question = Page(browser.get(f"/batches/{batch_id}/retry?outcome=cancelled&outcome=expired").text)

    answer = post(browser, f"/batches/{batch_id}/retry", outcome=["cancelled", "expired"])

    assert "Retry 3 jobs?" in question.text
    assert answer.status_code == 303
    assert unanswered(database, batch_id) == 3


def test_a_second_click_finds_nothing_more_to_do(browser: TestClient, database: Database, batch_id: str) -> None:
    first, second = (post(browser, f"/batches/{batch_id}/retry", outcome="failed") for _ in range(2))

    assert (first.status_code, second.status_code) == (303, 400)
    assert "The batch is in progress now" in second.text
    assert "Nothing to retry yet" in second.text
    assert "batchmill wait" not in second.text
    assert unanswered(database, batch_id) == 5


def test_a_batch_that_runs_has_nothing_to_retry(browser: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 2)

    page = Page(browser.get(f"/batches/{batch_id}/retry").text)

    assert "Nothing to retry yet" in page.text
    assert not [button for button in page.all("button") if button.get("class") == "primary"]


def test_a_new_deadline_is_set(browser: TestClient, database: Database, batch_id: str) -> None:
    update_batch(database, batch_id, expires_at=datetime(2026, 1, 1, tzinfo=UTC))
    wrong = post(browser, f"/batches/{batch_id}/retry", outcome="failed", deadline="yesterday?", code="out_of_memory")
    right = post(browser, f"/batches/{batch_id}/retry", outcome="failed", deadline="6h")

    assert (wrong.status_code, right.status_code) == (400, 303)
    assert "Retry 3 jobs?" in wrong.text
    assert "yesterday?" in {field.get("value") for field in Page(wrong.text).all("input")}
    assert views.get_batch(database, batch_id).timestamps["expires_at"] is not None


def test_ticked_codes_stay_ticked_when_a_form_is_refused(browser: TestClient, batch_id: str) -> None:
    fields = {"choose": "yes", "outcome": "failed", "code": "input_too_long", "deadline": "yesterday?"}

    page = Page(post(browser, f"/batches/{batch_id}/retry", **fields).text)

    boxes = {box["value"]: "checked" in box for box in page.all("input") if box.get("type") == "checkbox"}
    assert boxes == {"out_of_memory": False, "input_too_long": True}


def test_a_code_that_is_gone_is_explained_without_a_command(
    browser: TestClient, database: Database, batch_id: str
) -> None:
    execute(database, "UPDATE jobs SET invalid = true WHERE position < 6")
    execute(database, "UPDATE results SET attempts = 0 WHERE position < 6")

    answer = post(browser, f"/batches/{batch_id}/retry", outcome="failed", code="out_of_memory")

    assert answer.status_code == 400
    assert "Nothing was tried again" in answer.text
    assert "/repair" in answer.text


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("outcome=cancelled", "No job of this batch was cancelled (any more)."),
        ("outcome=expired", "No job of this batch has expired (any more)."),
        ("outcome=cancelled&outcome=expired", "No job of this batch was cancelled or has expired (any more)."),
        ("code=unknown", "No failed job has this code (any more)."),
        ("code=empty_text", "6 rows were invalid when submitted"),
        ("", "6 rows were invalid when submitted"),
    ],
)
def test_nothing_to_retry_says_of_what(
    browser: TestClient, database: Database, batch_id: str, query: str, sentence: str
) -> None:
    execute(database, "UPDATE jobs SET invalid = true WHERE position < 6")
    execute(database, "UPDATE results SET attempts = 0 WHERE position < 6")

    page = Page(browser.get(f"/batches/{batch_id}/retry?{query}").text)

    assert "Nothing to retry" in page.text
    assert sentence in page.text


def test_a_deletion_that_is_refused_asks_again(browser: TestClient, database: Database, batch_id: str) -> None:
    post(browser, f"/batches/{batch_id}/retry", outcome="failed")  # after the question was asked

    answer = post(browser, f"/batches/{batch_id}/delete")

    assert answer.status_code == 400
    assert "--cancel" not in answer.text
    assert "it is cancelled first" in answer.text
    assert '<input type="hidden" name="cancel" value="yes">' in answer.text


def test_a_batch_that_is_still_being_read_says_what_its_end_means(browser: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 1, total=0, status="validating", rows_read=510_000)

    page = Page(browser.get(f"/batches/{batch_id}").text)
    cancel = Page(browser.get(f"/batches/{batch_id}/cancel").text)
    delete = Page(browser.get(f"/batches/{batch_id}/delete").text)
    post(browser, f"/batches/{batch_id}/cancel")

    assert "510,000 rows read" in page.text
    assert "submit the rows again" in cancel.text
    assert "can be retried later" not in cancel.text
    assert "510,000 so far" in delete.text
    assert "0 inputs" not in delete.text
    assert "cancelled while its rows were being read" in browser.get("/batches").text


@pytest.mark.parametrize(
    "query", ["outcome=succeeded", "outcome=maybe", "position=-1", "position=x", f"position={'9' * 30}"]
)
def test_nonsense_is_refused(browser: TestClient, batch_id: str, query: str) -> None:
    assert browser.get(f"/batches/{batch_id}/retry?{query}").status_code == 400


def test_a_cancellation_says_how_many_jobs_stop(browser: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 5)
    write_results(database, batch_id, [(0, {"label": "A"})])
    question = Page(browser.get(f"/batches/{batch_id}/cancel").text)

    answer = post(browser, f"/batches/{batch_id}/cancel")

    assert "4 unanswered jobs of 5 will not run" in question.text
    assert answer.headers["location"] == f"/batches/{batch_id}"
    assert views.get_batch(database, batch_id).counts.as_dict()["cancelled"] == 4
    assert "4 jobs were cancelled" in browser.get("/batches").text


def test_a_batch_that_ended_meanwhile_is_not_cancelled(browser: TestClient, batch_id: str) -> None:
    question = Page(browser.get(f"/batches/{batch_id}/cancel").text)
    answer = post(browser, f"/batches/{batch_id}/cancel")

    assert "Nothing to cancel" in question.text
    assert answer.status_code == 400
    assert "completed already" in answer.text
    assert "Nothing to cancel" in answer.text


def test_a_deletion_says_what_is_lost_and_what_reads_it(browser: TestClient, database: Database, batch_id: str) -> None:
    follower = insert_batch(database, 1, source_batch_id=batch_id)
    question = Page(browser.get(f"/batches/{batch_id}/delete").text)

    answer = post(browser, f"/batches/{batch_id}/delete")

    assert "8 inputs and 8 results are gone for good" in question.text
    assert follower in question.text
    assert answer.headers["location"] == "/batches"
    assert browser.get(f"/batches/{batch_id}/results").status_code == 404


def test_a_running_batch_is_cancelled_before_it_is_deleted(browser: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 3)
    question = Page(browser.get(f"/batches/{batch_id}/delete").text)

    refused = post(browser, f"/batches/{batch_id}/delete")
    done = post(browser, f"/batches/{batch_id}/delete", cancel="yes")

    assert "3 unanswered jobs will not run" in question.text
    assert (refused.status_code, done.status_code) == (400, 303)


@pytest.mark.parametrize("action", ["retry", "cancel", "delete"])
def test_an_action_needs_the_token(browser: TestClient, database: Database, batch_id: str, action: str) -> None:
    browser.get("/batches")

    for fields in ({}, {"csrf_token": "0" * 64}):
        assert browser.post(f"/batches/{batch_id}/{action}", data=fields).status_code == 403
    assert views.get_batch(database, batch_id).counts.succeeded == 2


@pytest.mark.parametrize("action", ["retry", "cancel", "delete"])
def test_an_action_needs_the_scope_and_the_tenant(
    browser: TestClient, database: Database, batch_id: str, action: str
) -> None:
    sign_in_as(browser, database, None, Scope.READ)
    assert browser.get(f"/batches/{batch_id}/{action}").status_code == 403
    assert post(browser, f"/batches/{batch_id}/{action}").status_code == 403

    browser.cookies.clear()
    sign_in_as(browser, database, "acme", Scope.READ, Scope.SUBMIT)
    assert browser.get(f"/batches/{batch_id}/{action}").status_code == 404
    assert post(browser, f"/batches/{batch_id}/{action}").status_code == 404
    assert views.get_batch(database, batch_id).counts.failed == 6


def test_a_tenant_over_its_cap_is_refused_in_words(
    browser: TestClient, database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context: Any = browser.app.state.context  # type: ignore[attr-defined]
    monkeypatch.setattr(type(context.settings), "unanswered_jobs_cap", lambda _settings, _tenant: 2)

    answer = post(browser, f"/batches/{batch_id}/retry", outcome=JobOutcome.FAILED.value)

    assert answer.status_code == 429
    assert "may have 2" in answer.text


def test_an_act_that_takes_longer_is_answered_at_once_and_goes_on(
    browser: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(retries, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(long_acts, "POLL_SECONDS", 0.01)
    batch_id = insert_batch(database, 3)
    goes_on, delete_batch = Event(), deleting.delete

    def delete_slowly(*arguments: Any, **options: Any) -> Any:
        assert goes_on.wait(WAIT_TIMEOUT_SECONDS)
        return delete_batch(*arguments, **options)

    monkeypatch.setattr(deleting, "delete", delete_slowly)

    for action, address in (("cancel", f"/batches/{batch_id}"), ("retry", f"/batches/{batch_id}")):
        answer = post(browser, f"/batches/{batch_id}/{action}", outcome="cancelled")
        wait_until(lambda: not long_acts._tasks, "the act to end")
        assert (answer.status_code, answer.headers["location"]) == (303, address)
    deleted = post(browser, f"/batches/{batch_id}/delete", cancel="yes")
    message = browser.get("/batches").text
    goes_on.set()
    wait_until(lambda: not long_acts._tasks, "the deletion to end")

    assert deleted.headers["location"] == "/batches"
    assert f"{batch_id} is being deleted." in message
    assert browser.get(f"/batches/{batch_id}").status_code == 404


def test_hostile_content_is_escaped(browser: TestClient, hostile_batch: str) -> None:
    addresses = ["retry", "retry?position=5", "cancel", "delete", "download", "retry?code=<script>alert(1)</script>"]

    for address in addresses:
        response = browser.get(f"/batches/{hostile_batch}/{address}")
        assert response.status_code == 200
        assert "<script>alert" not in response.text
        assert len(response.text) < 50_000


def test_the_same_action_by_htmx_sends_the_browser_on(browser: TestClient, database: Database, batch_id: str) -> None:
    update_batch(database, batch_id, name=None)
    headers = {**PART, "x-csrf-token": csrf_token(browser)}

    answer = browser.post(f"/batches/{batch_id}/retry", data={"outcome": "failed"}, headers=headers)

    assert (answer.status_code, answer.headers["hx-redirect"]) == (200, f"/batches/{batch_id}")
