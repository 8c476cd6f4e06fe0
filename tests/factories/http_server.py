"""An application over a test's database, called in this process, and keys for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from fastapi import FastAPI
from starlette.testclient import TestClient

from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.server.app import create_app
from producer.server.context import ServerContext
from producer.server.native.batches import long_acts
from producer.server.requests import outages
from producer.tenants import keys
from producer.tenants.keys import KeyRequest
from producer.tenants.principal import Scope
from tests.servers import wait_until

UNREACHABLE_REDIS = "redis://127.0.0.1:1/0"
PATIENCE_SECONDS = 60


def patient_app(context: ServerContext, *, checks_origins: bool = False) -> FastAPI:
    """Return an application that waits for a database which is slow because the machine is busy."""
    with mock.patch.multiple(outages, PING_SECONDS=float(PATIENCE_SECONDS), CONNECT_SECONDS=PATIENCE_SECONDS):
        return create_app(context, checks_origins=checks_origins)


def app_over(database: Database, url: str, **settings: Any) -> FastAPI:
    """Return an application with these settings; no Redis answers it."""
    fields = {"database_url": url, "redis_url": UNREACHABLE_REDIS, "redis_timeout_seconds": 0.2, **settings}
    loaded = Settings(**fields)
    return patient_app(ServerContext(loaded, database, Catalogue.load(loaded)))


def key_headers(database: Database, tenant: str | None, *scopes: Scope) -> dict[str, str]:
    """Create a key, for all tenants if `tenant` is None, and return the headers of a request with it."""
    new_key = keys.create_key(database, KeyRequest(tenant, scopes or tuple(Scope)))
    return {"authorization": f"Bearer {new_key.text}"}


@contextmanager
def client_over(database: Database, url: str, **settings: Any) -> Iterator[TestClient]:
    """Yield a client of such an application."""
    app = app_over(database, url, **settings)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
        wait_until(lambda: not long_acts._tasks, "acts that went on after their response to end")
    app.state.context.watch.close()
