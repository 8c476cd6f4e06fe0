"""Refusals say what to do in the words of the door: a client of HTTP gets routes, and a page speaks of pages."""

import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from models.db import Database
from tests.factories.batch_rows import insert_batch
from tests.factories.http_server import client_over

SHELL_WORDS = re.compile(r"\bbatchmill [a-z]|(?<![\w-])--[a-z]")
SAMPLE = "sample-sentiment-analysis"


@pytest.fixture
def client(database: Database, database_url: str) -> Iterator[TestClient]:
    with client_over(database, database_url) as client:
        yield client


def test_a_refusal_names_a_route(client: TestClient, database: Database) -> None:
    running = insert_batch(database, 2)
    refused: list[tuple[str, str, object, str]] = [
        ("GET", "/api/batches/none", None, "GET /api/batches"),
        ("GET", "/api/batches/none/wait", None, "GET /api/batches"),
        ("GET", "/api/batches/none/results", None, "GET /api/batches"),
        ("GET", "/api/batches/none/audit", None, "GET /api/batches"),
        ("GET", "/v1/batches/none", None, "GET /api/batches"),
        ("DELETE", "/api/batches/none", None, "GET /api/batches"),
        ("DELETE", f"/api/batches/{running}", None, "add ?cancel=true to end it now"),
        ("POST", f"/api/batches/{running}/retry", {}, f"GET /api/batches/{running}/wait"),
        ("POST", "/api/batches", {"pipeline": SAMPLE, "from_batch": "none"}, "GET /api/batches"),
        ("GET", "/api/schedules/none", None, "GET /api/schedules"),
        ("POST", "/api/schedules/none/trigger", None, "GET /api/schedules"),
    ]
    for method, path, body, advice in refused:
        response = client.request(method, path, json=body)

        assert response.status_code in (400, 404), response.text
        message = response.json()["error"]["message"]
        assert message.endswith(advice)
        assert not SHELL_WORDS.search(message)


def test_a_page_names_no_command_and_no_route(client: TestClient) -> None:
    for path in ("/batches/none", "/batches/none/rows/1", "/schedules/none", "/batches/none/retry"):
        response = client.get(path, headers={"accept": "text/html"})

        assert response.status_code == 404
        notice = re.sub(r"<[^>]*>", "", response.text)
        assert not SHELL_WORDS.search(notice)
        assert "GET /api" not in notice


def test_the_advice_of_a_retry_names_routes(client: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 1)

    client.post(f"/api/batches/{batch_id}/cancel")
    message = client.post(f"/api/batches/{batch_id}/retry", json={}).json()["error"]["message"]

    assert '"status": ["cancelled"]' in message
    assert not SHELL_WORDS.search(message)
