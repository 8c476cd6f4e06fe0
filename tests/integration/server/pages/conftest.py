"""A browser over the test's database."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from models.db import Database
from producer.server.native.batches import long_acts
from tests.factories.http_server import app_over
from tests.factories.page_clients import browser_over
from tests.servers import wait_until


@pytest.fixture
def browser(database: Database, database_url: str) -> Iterator[TestClient]:
    app = app_over(database, database_url)
    with browser_over(app) as client:
        yield client
        wait_until(lambda: not long_acts._tasks, "acts that went on after their response to end")
    app.state.context.watch.close()
