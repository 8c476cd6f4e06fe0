"""The first request after a start prepares nothing that a start can prepare."""

from typing import Any

import pytest
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from models.db import Database
from producer.server.pages.frame import warm_up
from tests.factories.http_server import app_over


def test_the_parameters_of_all_routes_are_ready(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_over(database, database_url)
    warm_up.build_routes(app)
    prepared: list[Any] = []
    prepare = TypeAdapter.__init__

    def note(adapter: Any, *arguments: Any, **options: Any) -> None:
        prepared.append(arguments)
        prepare(adapter, *arguments, **options)

    monkeypatch.setattr(TypeAdapter, "__init__", note)

    with TestClient(app) as client:
        statuses = [client.get(path).status_code for path in ("/", "/batches", "/api/batches", "/v1/models")]

    assert statuses == [200] * 4
    assert prepared == []
