"""Fixtures of the tests of the API under `/api`."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from models.db import Database
from producer.server.following import watch
from tests.factories.http_server import client_over


@pytest.fixture
def api(database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Yield a client of an application over the test's database, whose followers hear of changes at once."""
    monkeypatch.setattr(watch, "BUSY_SECONDS", 0.01)
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.01)
    with client_over(database, database_url) as client:
        yield client
