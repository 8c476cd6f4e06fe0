"""Files for browsers, and what a first visit loads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from models.db import Database
from tests import fake_worker
from tests.factories.batch_rows import insert_batch
from tests.factories.http_server import app_over
from tests.factories.page_clients import Page, browser_over

MAX_FIRST_LOAD_BYTES = 150_000  # compressed: the page with its scripts, styles and images


@pytest.fixture
def browser(database: Database, database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    batch_id = insert_batch(database, 60, id="batch_1")
    fake_worker.write_results(database, batch_id, [(place, [{"label": "good", "score": 0.5}]) for place in range(60)])
    app = app_over(database, database_url, home=tmp_path)
    with browser_over(app) as client:
        client.headers["accept-encoding"] = "gzip"
        yield client
    app.state.context.watch.close()


def files_of(page: Page) -> set[str]:
    links = {link["href"] for link in page.all("link")}
    return links | {element["src"] for tag in ("script", "img") for element in page.all(tag)}


@pytest.mark.parametrize("path", ["/", "/batches", "/batches/batch_1", "/submit", "/schedules", "/usage"])
def test_a_first_visit_loads_little(browser: TestClient, path: str) -> None:
    response = browser.get(path)
    files = {address: browser.get(address) for address in files_of(Page(response.text))}

    assert response.status_code == 200
    assert {file.status_code for file in files.values()} == {200}
    assert sum(int(answer.headers["content-length"]) for answer in (response, *files.values())) < MAX_FIRST_LOAD_BYTES
    assert all("immutable" in file.headers["cache-control"] for file in files.values())


def test_files_are_sent_compressed_and_plain(browser: TestClient) -> None:
    compressed = browser.get("/static/app.js")
    plain = browser.get("/static/app.js", headers={"accept-encoding": "identity"})

    assert compressed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert compressed.text == plain.text
    assert compressed.headers["vary"] == plain.headers["vary"] == "accept-encoding"
    assert compressed.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("name", ["none.js", "..%2fvisitor.py", "icon.svg%00", "base.html", "app.css%2f.."])
def test_nothing_else_is_a_file(browser: TestClient, name: str) -> None:
    assert browser.get(f"/static/{name}").status_code == 404
