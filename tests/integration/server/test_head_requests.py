"""HEAD and OPTIONS of the API: the headers of GET without its body, and the methods of a path."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from models.db import Database
from producer.results import export
from tests.factories.batch_rows import insert_batch
from tests.factories.http_server import client_over, key_headers


@pytest.fixture
def client(database: Database, database_url: str) -> Iterator[TestClient]:
    with client_over(database, database_url) as client:
        yield client


def headers_of(client: TestClient, method: str, path: str) -> dict[str, str]:
    response = client.request(method, path)
    assert method == "GET" or response.content == b""
    return {"status": str(response.status_code), **response.headers, "x-request-id": "any"}


def test_head_has_the_headers_of_get_and_no_body(client: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 2)
    for path in (
        f"/api/batches/{batch_id}",
        "/api/batches/none",
        "/api/batches?limit=0",
        f"/api/batches/{batch_id}/results",
        f"/api/batches/{batch_id}/results?format=ndjson",
        "/api/pipelines/sample-ner",
        "/api/nothing",
        "/v1/models",
        "/v1/files/none",
        "/v1/nothing",
        "/healthz",
    ):
        assert headers_of(client, "HEAD", path) == headers_of(client, "GET", path)


def test_an_etag_is_compared(client: TestClient, database: Database) -> None:
    path = f"/api/batches/{insert_batch(database, 1, status='cancelled')}"
    etag = client.head(path).headers["etag"]

    assert client.head(path, headers={"if-none-match": etag}).status_code == 304


def test_head_needs_a_key_where_get_does(client: TestClient, database: Database) -> None:
    headers = key_headers(database, "acme")
    batch_id = insert_batch(database, 1, tenant="acme")

    assert client.head(f"/api/batches/{batch_id}").status_code == 401
    assert client.head(f"/api/batches/{batch_id}", headers=headers).status_code == 200
    assert client.head("/api/batches/none", headers=headers).status_code == 404


def test_head_of_a_file_of_results_makes_one_block(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id, blocks = insert_batch(database, 1), []

    def count_blocks(*_arguments: object) -> Iterator[bytes]:
        for number in range(1_000):
            blocks.append(number)
            yield b"block"

    monkeypatch.setattr(export, "open_export", count_blocks)

    response = client.head(f"/api/batches/{batch_id}/results?format=csv")

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-disposition"].endswith('.csv"')
    assert blocks == [0]


def test_head_of_a_stream_without_end_ends(client: TestClient, database: Database) -> None:
    for path in ("/api/follow", f"/api/batches/{insert_batch(database, 1)}/follow"):
        response = client.head(path)

        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"].startswith("text/event-stream")
    assert client.app.state.context.streams._open == {}  # type: ignore[attr-defined]


def test_a_path_without_get_has_no_head(client: TestClient) -> None:
    response = client.head("/api/batches/none/cancel")

    assert (response.status_code, response.headers["allow"]) == (405, "POST, OPTIONS")


def test_the_log_has_the_method_and_the_route(client: TestClient) -> None:
    with capture_logs() as lines:
        client.head("/api/batches/none")

    assert [(line["method"], line["route"]) for line in lines if line["event"] == "request.handled"] == [
        ("HEAD", "/api/batches/{batch_id}")
    ]


def test_options_says_the_methods(client: TestClient) -> None:
    for path, methods in (
        ("/api/batches", "GET, HEAD, POST, OPTIONS"),
        ("/api/batches/none", "GET, HEAD, DELETE, OPTIONS"),
        ("/v1/files", "GET, HEAD, POST, OPTIONS"),
        ("/api/batches/none/cancel", "POST, OPTIONS"),
    ):
        response = client.options(path)

        assert (response.status_code, response.headers["allow"], response.content) == (204, methods, b"")
    assert client.options("/api/nothing").status_code == 404
