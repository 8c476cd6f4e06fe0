"""Pipelines and tasks over HTTP, without what only the operator may read."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from models.db import Database
from producer.server.native.offered import objects
from tests.factories.batch_rows import insert_batch
from tests.factories.http_server import client_over, key_headers

GUARDED = {
    "guarded": {
        "task": "sentiment-analysis",
        "model": "bundled:sentiment-analysis",
        "guards": {"names": {"pattern": "secret-[0-9]+", "on": "input", "action": "fail"}},
    }
}


@pytest.fixture
def client(database: Database, database_url: str) -> Iterator[TestClient]:
    with client_over(database, database_url, pipelines=GUARDED) as client:
        yield client


def test_the_catalogue_is_listed_with_models_parameters_and_workers(client: TestClient) -> None:
    listed = client.get("/api/pipelines").json()["data"]
    shown = client.get("/api/pipelines/sample-ner").json()

    assert {"sample-ner", "guarded"} <= {pipeline["name"] for pipeline in listed}
    assert (shown["task"], shown["model"], shown["workers"]) == ("ner", "bundled:ner", 0)
    assert "backlog" not in shown
    objects.PipelineList.model_validate({"object": "list", "data": listed})


def test_the_backlog_counts_what_the_key_may_see(client: TestClient, database: Database) -> None:
    insert_batch(database, 3, pipeline="sample-ner", tenant="a")
    insert_batch(database, 2, pipeline="sample-ner", tenant="b", succeeded=1)

    operator, headers = key_headers(database, None), key_headers(database, "b")
    everything = client.get("/api/pipelines/sample-ner", params={"backlog": True}, headers=operator).json()["backlog"]
    own = client.get("/api/pipelines/sample-ner", params={"backlog": True}, headers=headers).json()["backlog"]
    none = client.get("/api/pipelines/guarded", params={"backlog": True}, headers=headers).json()["backlog"]

    assert (everything["unanswered_jobs"], everything["open_batches"]) == (4, 2)
    assert (own["unanswered_jobs"], own["open_batches"]) == (1, 1)
    assert (everything["queued_slices"], own["queued_slices"], own["leased_slices"]) == (2, 1, 0)
    assert set(none.values()) == {0, None}


def test_only_the_operator_reads_the_pattern_of_a_guard(client: TestClient, database: Database) -> None:
    keys = key_headers(database, None), key_headers(database, "b")
    operator, tenant = (client.get("/api/pipelines/guarded", headers=headers) for headers in keys)

    assert operator.json()["guards"]["names"]["pattern"] == "secret-[0-9]+"
    assert "secret-" not in tenant.text
    assert tenant.json()["guards"]["names"]["action"] == "fail"


def test_tasks_are_listed_and_explained(client: TestClient) -> None:
    listed = client.get("/api/tasks").json()
    generation = client.get("/api/tasks/text-generation").json()
    by_alias = client.get("/api/tasks/token-classification").json()

    objects.TaskList.model_validate(listed)
    assert "max_new_tokens" in generation["parameters"]
    assert "sample-text-generation" in generation["limits"]
    assert (by_alias["name"], by_alias["example"]["input"]) != ("token-classification", None)


@pytest.mark.parametrize("path", ["/api/pipelines/nothing", "/api/tasks/nothing"])
def test_what_there_is_not_is_not_found(client: TestClient, path: str) -> None:
    response = client.get(path)

    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found_error")
    assert "nothing" in response.json()["error"]["message"]
