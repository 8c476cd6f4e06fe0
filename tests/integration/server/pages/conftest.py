"""A browser over the test's database."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from models.db import Database
from tests.factories.http_server import app_over
from tests.factories.page_clients import browser_over


@pytest.fixture
def browser(database: Database, database_url: str) -> Iterator[TestClient]:
    with browser_over(app_over(database, database_url)) as client:
        yield client
