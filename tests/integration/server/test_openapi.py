"""The OpenAPI document: complete, true, and the same as its copy."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient

from models.db import Database
from producer.server import openapi_document
from producer.server.native.offered import objects as offered
from producer.server.native.operations import objects as operations_objects
from producer.server.native.schedules import objects as schedules
from tests import api_fuzzer
from tests.factories.http_server import app_over, client_over, key_headers
from tests.openapi_copy import COPY


@pytest.fixture
def document(sqlite_database: Database, sqlite_url: str) -> dict[str, Any]:
    return app_over(sqlite_database, sqlite_url).openapi()


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    database = Database(sqlite_url)
    yield database
    database.close()


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in openapi_document.HTTP_METHODS
    ]


def test_its_copy_is_the_same(document: dict[str, Any]) -> None:
    assert json.loads(COPY.read_text("utf-8")) == document, "look at the change, then: make openapi"


def test_every_operation_is_explained(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        assert set(operation["tags"]) <= set(openapi_document.TAGS), name


@pytest.mark.parametrize("module", [schedules, offered, operations_objects])
def test_examples_are_true(module: ModuleType) -> None:
    models = [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, BaseModel)]
    examples = [
        (model, model.model_config["json_schema_extra"]["example"])
        for model in models
        if "json_schema_extra" in model.model_config
    ]

    assert len(examples) > 2
    for model, example in examples:
        model.model_validate(example)


def test_every_operation_has_our_errors_and_no_other_shape(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert {"400", "401", "403", "404", "429", "503"} <= set(operation["responses"]), name
        assert "422" not in operation["responses"], name
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}, name
    assert document["security"] == [{"key": []}, {}]


def test_the_index_lists_the_routes(sqlite_database: Database, sqlite_url: str) -> None:
    with client_over(sqlite_database, sqlite_url) as client:
        index = client.get("/api").json()
        document = client.get(index["openapi"]).json()

    assert {"method": "GET", "path": "/api/batches", "summary": "List batches"} in index["routes"]
    assert len(index["routes"]) == len(operations(document))


def test_it_says_that_a_server_with_keys_wants_one(sqlite_database: Database, sqlite_url: str) -> None:
    key_headers(sqlite_database, None)
    with client_over(sqlite_database, sqlite_url) as client:
        assert client.get("/api/openapi.json").json()["security"] == [{"key": []}]


def test_a_wrong_method_is_told_all_right_ones(sqlite_database: Database, sqlite_url: str) -> None:
    with client_over(sqlite_database, sqlite_url) as client:
        response = client.put("/api/batches/batch_1")

    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, DELETE, OPTIONS")
    assert response.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.filterwarnings("ignore")  # of the packages that make requests up
def test_no_request_ends_in_a_defect_or_in_what_the_document_lacks(postgresql_url: str, tmp_path: Path) -> None:
    """On PostgreSQL, which refuses more texts than SQLite."""
    with closing(Database(postgresql_url)) as database:
        api_fuzzer.seed(database)

        assert api_fuzzer.find_problems(app_over(database, postgresql_url, home=tmp_path), examples=4) == []


def test_the_fuzzer_finds_a_defect(sqlite_database: Database, sqlite_url: str, tmp_path: Path) -> None:
    app = app_over(sqlite_database, sqlite_url, home=tmp_path)

    @app.get("/api/broken", summary="Break", tags=["batches"])
    def break_it() -> dict[str, str]:
        raise ZeroDivisionError

    document = openapi_document.build_document(app.routes)
    app.openapi_schema = {**document, "paths": {"/api/broken": document["paths"]["/api/broken"]}}

    [problem, *_] = api_fuzzer.find_problems(app, examples=1)

    assert problem.startswith("GET /api/broken")
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/api/broken").status_code == 500


def test_openai_s_routes_tell_the_right_methods_too(sqlite_database: Database, sqlite_url: str) -> None:
    with client_over(sqlite_database, sqlite_url) as client:
        wrong_method, unknown = client.put("/v1/batches"), client.get("/v1/nothing")

    assert (wrong_method.status_code, wrong_method.headers["allow"]) == (405, "GET, HEAD, POST, OPTIONS")
    assert unknown.status_code == 404
