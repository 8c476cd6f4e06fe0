"""The first page of a submission: a pipeline, its example, and a file or lines of text."""

import json

from starlette.testclient import TestClient

from models.db import Database
from producer.batches import views
from tests.factories.hostile import HOSTILE, assert_shown_as_text
from tests.factories.page_clients import csrf_token
from tests.factories.submit_pages import PIPELINE, batch_of


def test_the_page_offers_the_catalogue(browser: TestClient) -> None:
    page = browser.get("/submit", params={"pipeline": "sample-ner"}).text

    assert '<optgroup label="ner">' in page
    assert '<option value="sample-ner" selected>' in page
    assert "none serves it now" in page
    assert "up to 2.1 GB" in page


def test_an_unknown_pipeline_is_named(browser: TestClient) -> None:
    page = browser.get("/submit", params={"pipeline": HOSTILE}).text

    assert "There is no pipeline “<script>" in assert_shown_as_text(page).text


def test_a_choice_renders_its_part(browser: TestClient) -> None:
    response = browser.get("/submit/pipeline", params={"pipeline": "sample-ner"}, headers={"hx-request": "true"})

    assert response.headers["hx-replace-url"] == "/submit?pipeline=sample-ner"
    assert "<html" not in response.text
    assert "bundled:ner" in response.text
    assert browser.get("/submit/pipeline", params={"pipeline": "sample-ner"}).status_code == 303
    unknown = browser.get("/submit/pipeline", params={"pipeline": "x"}, headers={"hx-request": "true"})
    assert unknown.status_code == 404


def test_the_example_is_submitted_at_once(browser: TestClient, database: Database) -> None:
    form = {"csrf_token": csrf_token(browser), "pipeline": PIPELINE, "key": "page-" + "a" * 24}

    first, second = (browser.post("/submit/example", data=form) for _ in range(2))

    batch = views.get_batch(database, batch_of(first))
    assert (batch.name, batch.counts.total) == ("example", 300)
    assert batch_of(second) == batch.id


def test_the_example_is_a_file(browser: TestClient) -> None:
    response = browser.get("/submit/example", params={"pipeline": "sample-ner"})

    assert json.loads(response.text.splitlines()[0])["text"].startswith("My name is Sarah")
    assert response.headers["content-disposition"] == 'attachment; filename="sample-ner-example.jsonl"'
    assert browser.get("/submit/example", params={"pipeline": "x"}).status_code == 404
