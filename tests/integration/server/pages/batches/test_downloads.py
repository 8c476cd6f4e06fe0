"""Downloads by session: the files of the API, with formulas made harmless."""

import json

import pytest
from starlette.testclient import TestClient

from models.db import Database
from tests.factories.batch_rows import insert_batch
from tests.fake_worker import write_results


@pytest.fixture
def batch_id(database: Database) -> str:
    batch_id = insert_batch(database, [{"text": "=cmd()"}, {"text": "b"}, {"text": "c"}])
    write_results(database, batch_id, [(0, {"label": "A", "score": 0.5}), (1, "out_of_memory"), (2, "too_long")])
    return batch_id


def test_a_file_has_all_rows_and_a_name(browser: TestClient, batch_id: str) -> None:
    response = browser.get(f"/batches/{batch_id}/download?format=csv")

    assert response.headers["content-disposition"] == f'attachment; filename="{batch_id}.csv"'
    assert len(response.text.splitlines()) == 4
    assert "'=cmd()" in response.text


@pytest.mark.parametrize(
    ("query", "positions"),
    [("", [0, 1, 2]), ("&status=failed", [1, 2]), ("&status=", [0, 1, 2]), ("&code=too_long", [2])],
)
def test_a_file_has_the_rows_that_are_asked_for(
    browser: TestClient, batch_id: str, query: str, positions: list[int]
) -> None:
    lines = browser.get(f"/batches/{batch_id}/download?format=ndjson{query}").text.splitlines()

    assert [json.loads(line)["position"] for line in lines] == positions


@pytest.mark.parametrize("query", ["format=csv", "format=csv&code=%00"])
def test_what_breaks_in_the_first_rows_is_a_page(browser: TestClient, database: Database, query: str) -> None:
    batch_id = insert_batch(database, 2)
    write_results(database, batch_id, [(0, {"label": "A"}), (1, {"answer": "b"})])

    response = browser.get(f"/batches/{batch_id}/download?{query}")

    assert (response.status_code, "content-disposition" in response.headers) in ((400, False), (200, True))
    assert response.status_code == 400 or "code" in query


@pytest.mark.parametrize("query", ["format=zip", "format=csv&status=maybe", "format=npy&status=failed", "format=npy"])
def test_what_can_not_be_a_file_is_refused(browser: TestClient, batch_id: str, query: str) -> None:
    assert browser.get(f"/batches/{batch_id}/download?{query}").status_code == 400


def test_the_page_offers_formats_and_commands(browser: TestClient, batch_id: str) -> None:
    text = browser.get(f"/batches/{batch_id}/download").text

    assert f"batchmill results {batch_id} -o {batch_id}.csv" in text
    assert f"/api/batches/{batch_id}/results?format=csv" in text
    assert '<option value="npy">' not in text


def test_a_batch_without_results_says_so(browser: TestClient, database: Database) -> None:
    assert "No job has a result yet." in browser.get(f"/batches/{insert_batch(database, 1)}/download").text
