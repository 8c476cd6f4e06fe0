"""A file, or lines of text, become an uploaded file."""

from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from starlette.testclient import TestClient

from models.db import Database
from models.errors import FileStoreUnavailable, TooManyJobs
from producer.server.pages.submit import uploading
from producer.uploads.storage import local_store
from tests.factories.http_server import app_over
from tests.factories.page_clients import browser_over, csrf_token
from tests.factories.submit_pages import CSV, PIPELINE, batch_of, count, inputs_of, submit, upload


def test_a_file_leads_to_its_form(browser: TestClient) -> None:
    response = upload(browser)

    assert response.status_code == 303
    path, _, query = response.headers["location"].partition("?")
    assert path.startswith("/submit/files/file-")
    assert dict(parse_qsl(query)) == {"pipeline": PIPELINE}


def test_a_script_gets_the_address(browser: TestClient) -> None:
    sent = {"hx-request": "true", "x-csrf-token": csrf_token(browser)}

    response = browser.post("/submit/files", files={"file": ("a.csv", CSV)}, headers=sent)

    assert response.status_code == 200
    assert response.headers["hx-redirect"].startswith("/submit/files/file-")


def test_pasted_lines_become_a_file(browser: TestClient, database: Database) -> None:
    response = upload(browser, b"", "", texts="a fine day\r\n\r\n{not json\r\n")
    address = response.headers["location"]

    batch_id = batch_of(submit(browser, address))

    assert inputs_of(database, batch_id) == [(None, "a fine day"), (None, "{not json")]


@pytest.mark.parametrize(
    ("content", "filename", "message"), [(b"", "", "Choose a file, or paste"), (b"", "empty.csv", "empty.csv is empty")]
)
def test_nothing_is_refused(
    browser: TestClient, database: Database, content: bytes, filename: str, message: str
) -> None:
    response = upload(browser, content, filename, pipeline="sample-ner")

    assert response.status_code == 400
    assert message in response.text
    assert '<option value="sample-ner" selected>' in response.text
    assert count(database, "files") == 0


def test_a_forged_form_is_refused_before_its_file(
    browser: TestClient, database: Database, batchmill_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_store.LocalStore, "_create", lambda *_: pytest.fail("the file was received"))

    for value in ("", "0" * 64):
        assert upload(browser, csrf_token=value).status_code == 403
    files = {"file": ("a.csv", CSV)}
    assert browser.post("/submit/files", files=files).status_code == 403
    headers = {"x-csrf-token": csrf_token(browser), "origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    assert browser.post("/submit/files", files=files, headers=headers).status_code == 403
    assert count(database, "files") == 0


def test_a_large_file_is_refused_with_its_limit(database: Database, database_url: str) -> None:
    with browser_over(app_over(database, database_url, max_upload_bytes=100)) as browser:
        response = upload(browser, b"x" * 200)
        part = browser.post(
            "/submit/files",
            files={"file": ("a.csv", b"x" * 200)},
            headers={"hx-request": "true", "x-csrf-token": csrf_token(browser)},
        )

    assert (response.status_code, part.status_code) == (413, 413)
    assert "The file has more than 100 bytes" in response.text
    assert part.headers["content-type"].startswith("text/plain")
    assert part.text.startswith("the file has more than 100 bytes")


def test_a_full_store_is_no_traceback(browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise FileStoreUnavailable("/secret/folder is full")

    monkeypatch.setattr(local_store.LocalStore, "_create", fail)

    response = upload(browser)

    assert response.status_code == 503
    assert "The file store is full or does not answer" in response.text
    assert "/secret" not in response.text


def test_a_failing_database_leaves_no_bytes(
    browser: TestClient, batchmill_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise TooManyJobs("full", 1.0)

    monkeypatch.setattr(uploading.files, "save_file", fail)

    assert upload(browser).status_code == 429
    assert [path for path in batchmill_home.rglob("*") if len(path.name) == 32] == []
