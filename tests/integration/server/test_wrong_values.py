"""An error about one value of a request names it: wrong values for each parameter and field of the OpenAPI document."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from models.db import Database
from tests.factories.batch_rows import insert_batch
from tests.factories.http_server import client_over
from tests.openapi_copy import COPY

PIPELINE = "sample-sentiment-analysis"
# Each is wrong for some kinds of values; those that are taken prove nothing.
TEXTS = ("", "wrong?", "-1", "[", "[1, 2]", "a\0b", "x" * 5_000)
VALUES = ("wrong?", 5, True, -1.5, 10**20, [], {}, [[]], {"a": 1}, {"a": "b"}, "a\0b", "x" * 5_000, "\ud800")
SOURCES = ("sql", "from_batch", "file_id")  # in place of inputs
ANY_TEXT = {
    "pipeline",
    "name",
    "search",
    "code",
    "passthrough",
    "id_column",
    "purpose",
    "status",
    "labels",
    "custom_id",
}
# About the rows, or the state of the batch, as much as about the value.
OTHER_CODES = ("invalid_rows", "nothing_to_retry")
OPERATIONS = [
    (method, path, operation)
    for path, methods in json.loads(COPY.read_text("utf-8"))["paths"].items()
    for method, operation in methods.items()
    if method in ("get", "post") and path != "/api/dry-run"  # it has the options of a submission
]


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = Database(sqlite_url)
    yield database
    database.close()


@pytest.fixture
def api(sqlite_url: str, database: Database) -> Iterator[TestClient]:
    with client_over(database, sqlite_url) as client:
        yield client


class Requests:
    """Sends requests that are right but for one value, and notes the errors that name another, or none."""

    def __init__(self, api: TestClient, database: Database) -> None:
        self.api = api
        self.batch_id = insert_batch(database, 2, pipeline=PIPELINE, status="completed", succeeded=1, failed=1)
        line = {"custom_id": "a", "method": "POST", "url": f"/v1/pipelines/{PIPELINE}", "body": {"input": "x"}}
        line["body"] = {"model": PIPELINE, "input": "x"}
        files = {"file": ("a.jsonl", json.dumps(line).encode())}
        self.file_id = api.post("/v1/files", data={"purpose": "batch"}, files=files).json()["id"]
        self.bodies: dict[str, dict[str, Any]] = {
            "/api/batches": {"pipeline": PIPELINE, "inputs": ["a"]},
            "/v1/batches": {
                "input_file_id": self.file_id,
                "endpoint": f"/v1/pipelines/{PIPELINE}",
                "completion_window": "24h",
            },
            "/api/batches/{batch_id}/repair": {"inputs": [{"position": 1, "text": "a"}]},
        }
        self.refused: set[str] = set()
        self.wrong: list[tuple[str, str, object, str]] = []

    def address(self, path: str) -> str:
        name = "sentiment-analysis" if path.startswith("/api/tasks") else PIPELINE
        return path.format(batch_id=self.batch_id, file_id=self.file_id, name=name, position=1)

    def note(self, place: str, name: str, value: object, response: Response) -> None:
        if response.status_code < 400 or (response.status_code == 404 and "schedules" in place):
            return
        error = response.json()["error"]
        self.refused.add(f"{place} {name}")
        param = error["param"] or ""
        if response.status_code >= 500 or (param.partition(".")[0] != name and error["code"] not in OTHER_CODES):
            self.wrong.append((place, name, value, f"{response.status_code} {param} {error['message'][:100]}"))

    def send_parameter(self, method: str, path: str, name: str, place: str, value: str) -> Response:
        if place == "header":
            headers, params = {name: value.replace("\0", "")}, {}
        else:
            headers, params = {}, {name: value}
        if method == "get":
            return self.api.get(self.address(path), params=params, headers=headers)
        if path == "/api/batches" and place == "query" and name != "wait":
            headers["content-type"], params = "application/x-ndjson", {"pipeline": PIPELINE, **params}
            return self.api.post(path, params=params, headers=headers, content=b'"a"\n')
        body = self.bodies.get(path, {})
        return self.api.post(self.address(path), params=params, headers=headers, json=body)

    def send_field(self, path: str, name: str, value: object) -> Response:
        body = {**self.bodies.get(path, {}), name: value}
        if name in SOURCES:
            del body["inputs"]
        headers = {"content-type": "application/json"}
        return self.api.post(self.address(path), content=json.dumps(body), headers=headers)


@pytest.fixture
def requests(api: TestClient, database: Database) -> Requests:
    return Requests(api, database)


def test_parameters_are_named(requests: Requests) -> None:
    documented = set()
    for method, path, operation in OPERATIONS:
        place = f"{method} {path}"
        for parameter in operation.get("parameters", ()):
            name = parameter["name"]
            if parameter["in"] == "path":
                continue
            if name not in ANY_TEXT:
                documented.add(f"{place} {name}")
            for value in TEXTS:
                requests.note(place, name, value, requests.send_parameter(method, path, name, parameter["in"], value))

    assert requests.wrong == []
    assert documented - requests.refused == set()


def test_fields_of_bodies_are_named(requests: Requests) -> None:
    schemas = json.loads(COPY.read_text("utf-8"))["components"]["schemas"]
    documented = set()
    for _, path, operation in OPERATIONS:
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if schema is None:
            continue
        for part in (schema, *schema.get("anyOf", ())):
            schema = schemas[part["$ref"].rpartition("/")[2]] if "$ref" in part else schema
        for name in schema["properties"]:
            documented.add(f"{path} {name}")
            for value in VALUES:
                requests.note(path, name, value, requests.send_field(path, name, value))

    assert requests.wrong == []
    assert documented - requests.refused == set()


def test_fields_of_forms_are_named(requests: Requests) -> None:
    files = {"file": ("a.jsonl", b'"a"\n')}
    for name in ("pipeline", "priority", "metadata", "deadline", "max_failures", "tenant", "webhook_url", "status"):
        for value in TEXTS:
            form = {"pipeline": PIPELINE, name: value}
            requests.note("form", name, value, requests.api.post("/api/batches", data=form, files=files))

    assert requests.wrong == []
    assert len(requests.refused) == 8
