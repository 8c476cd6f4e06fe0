"""The webhook of a batch that is submitted over HTTP: checked before anything is stored, and shown by its host."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.db import Database
from models.lifecycle import termination
from models.states import Termination
from producer.server.native.batches.deliveries import WebhookEvent
from producer.tenants.principal import Scope
from tests.factories.batch_rows import get_batch, insert_batch
from tests.factories.http_server import client_over, key_headers

URL = "https://hooks.example.com/path?token=hidden"
ORDER = {"endpoint": "/v1/moderations", "completion_window": "24h"}
LINE = '{"custom_id": "a", "method": "POST", "url": "/v1/moderations", "body": {"model": "MODEL", "input": "fine"}}\n'


@pytest.fixture
def client(database: Database, database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    with client_over(database, database_url, home=tmp_path) as client:
        yield client


def submit(client: TestClient, url: str) -> Any:
    body = {"pipeline": "sample-sentiment-analysis", "inputs": ["a fine day"], "webhook_url": url}
    return client.post("/api/batches", json=body)


def create(client: TestClient, url: str, model: str = "sample-sentiment-analysis") -> Any:
    lines = LINE.replace("MODEL", model).encode()
    file = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", lines)}).json()
    return client.post("/v1/batches", json={**ORDER, "input_file_id": file["id"], "webhook_url": url})


@pytest.mark.parametrize("how", [submit, create])
def test_it_is_stored_and_only_its_host_is_shown(how: Any, client: TestClient, database: Database) -> None:
    response = how(client, URL)

    assert response.status_code in (200, 201, 202), response.text
    batch_id = response.json()["id"]
    assert get_batch(database, batch_id).webhook_url == URL
    shown = client.get(f"/api/batches/{batch_id}")
    assert shown.json()["webhook"] == "https://hooks.example.com/…"
    assert "hidden" not in response.text + shown.text


@pytest.mark.parametrize("how", [submit, create])
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://hooks.example.com/", "is not https"),
        ("https://127.0.0.1/hidden", "not public"),
        ("https://169.254.169.254/hidden", "not public"),
        ("https://[::ffff:10.0.0.1]/hidden", "not public"),
        ("https://user:hidden@example.com/", "user or password"),
        ("file:///hidden", "is not https"),
    ],
)
def test_one_that_may_not_be_called_is_refused(how: Any, client: TestClient, url: str, message: str) -> None:
    response = how(client, url)

    assert response.status_code == 400
    assert message in response.json()["error"]["message"]
    assert "hidden" not in response.text
    assert client.get("/api/batches").json()["data"] == []


def test_one_that_nobody_can_sign_is_accepted_with_a_warning(client: TestClient) -> None:
    assert "webhook_secret is not set here" in submit(client, URL).json()["warning"]


def test_a_file_that_can_t_be_read_sends_its_failure(client: TestClient, database: Database) -> None:
    batch_id = create(client, URL, model="nothing-like-it").json()["id"]

    with database.read() as connection:
        [(kind, code)] = connection.exec_driver_sql("SELECT kind, payload ->> 'error_code' FROM batch_events").all()
    assert get_batch(database, batch_id).status == "failed"
    assert (kind, code) == ("batch.failed", "invalid_rows")


def test_what_was_sent_is_listed_for_its_tenant(client: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 1, webhook_url=URL, tenant="a")
    termination.terminate(database, batch_id, Termination.CANCELLED, None, None)
    path = f"/api/batches/{batch_id}/webhook-events"

    own = client.get(path, headers=key_headers(database, "a", Scope.READ))
    other = client.get(path, headers=key_headers(database, "b", Scope.READ))

    [event] = own.json()["data"]
    assert (event["type"], event["state"], event["attempts"]) == ("batch.cancelled", "pending", 0)
    assert set(event) == set(WebhookEvent.model_fields)
    assert other.status_code == 404
    assert "hidden" not in own.text
