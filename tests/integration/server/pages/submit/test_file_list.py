"""The uploaded files, and deleting one."""

import html
import re

import pytest
from starlette.testclient import TestClient

from producer.server.pages.frame.texts import UNSEEN
from producer.server.pages.submit import file_list
from tests.factories.hostile import HOSTILE_NAME
from tests.factories.page_clients import assert_harmless
from tests.factories.submit_pages import CSV, batch_of, hidden, submit, uploaded


def test_the_list_shows_files_with_their_batches(browser: TestClient) -> None:
    assert "No file was uploaded yet." in browser.get("/submit/files").text
    address = uploaded(browser, CSV, HOSTILE_NAME.replace("/", "") + ".csv")
    batch_id = batch_of(submit(browser, address, name="nightly"))

    page = browser.get("/submit/files").text

    assert f'<a href="/batches/{batch_id}">nightly</a>' in page
    assert "<script>alert(1)<script>" in assert_harmless(page).text
    assert UNSEEN.search(page) is None
    assert "45 B" in page


def test_pages_of_the_list_follow_each_other(browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_list, "PAGE_FILES", 2)
    for number in range(3):
        uploaded(browser, CSV, f"{number}.csv")

    first = browser.get("/submit/files").text
    older = re.search(r'href="(/submit/files\?after=[^"]+)"', first)
    assert older is not None
    second = browser.get(html.unescape(older[1])).text

    assert [name in first for name in ("2.csv", "1.csv", "0.csv")] == [True, True, False]
    assert [name in second for name in ("2.csv", "1.csv", "0.csv")] == [False, False, True]


def test_a_file_is_deleted_after_a_question(browser: TestClient) -> None:
    address = uploaded(browser).partition("?")[0]
    batch_id = batch_of(submit(browser, address))

    question = browser.get(f"{address}/delete").text
    part = browser.get(f"{address}/delete", headers={"hx-request": "true"}).text
    forged = browser.post(f"{address}/delete")
    deleted = browser.post(f"{address}/delete", data={"csrf_token": hidden(question, "csrf_token")})

    assert "1 batch was made from it, which keeps its jobs and results" in question
    assert "<html" not in part
    assert forged.status_code == 403
    assert (deleted.status_code, deleted.headers["location"]) == (303, "/submit/files")
    assert browser.get(address).status_code == 404
    assert browser.get(f"/api/batches/{batch_id}").status_code == 200
