"""What Prometheus reads of a server: open work, processes, schedules and requests, for the operator alone."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.server.context import ServerContext
from producer.server.metrics.collector import CACHE_SECONDS, DatabaseCollector
from producer.server.metrics.database_numbers import read_numbers
from producer.tenants import keys
from producer.tenants.keys import KeyRequest
from producer.tenants.principal import Scope
from tests.factories.batch_rows import claimant_for, execute, insert_batch
from tests.factories.http_server import patient_app
from worker.leasing.claiming import claims

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    app = patient_app(ServerContext(Settings.load(), database, Catalogue({})))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def scrape(client: TestClient) -> Samples:
    response = client.get("/metrics")
    assert response.status_code == 200
    families = text_string_to_metric_families(response.text)
    return {(item.name, frozenset(item.labels.items())): item.value for family in families for item in family.samples}


def sample(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"batchmill_{name}", frozenset(labels.items())))


def test_counts_open_work(client: TestClient, database: Database) -> None:
    insert_batch(database, 12, expires_at=None)
    claims.claim(database, claimant_for(), 4, 4)

    samples = scrape(client)

    assert sample(samples, "database_up") == 1
    assert sample(samples, "queued_slices", pipeline="reviews") == 2
    assert sample(samples, "leased_slices", pipeline="reviews") == 1
    assert sample(samples, "unanswered_jobs", pipeline="reviews") == 12
    assert (sample(samples, "oldest_batch_age_seconds", pipeline="reviews") or 0) > 86_400
    assert sample(samples, "next_deadline_seconds", pipeline="reviews") is None


def test_shows_a_deadline_that_has_passed_as_negative(client: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 4)
    past = database.sql.seconds_from_now(-3_600)
    execute(database, f"UPDATE batches SET expires_at = {past} WHERE id = :id", id=batch_id)

    assert -7_200 < (sample(scrape(client), "next_deadline_seconds", pipeline="reviews") or 0) < -3_599


def test_shows_what_went_wrong(client: TestClient, database: Database) -> None:
    past = database.sql.seconds_from_now(-600)
    execute(
        database,
        f"""INSERT INTO workers (id, host, pid, device, pipeline, model, served_pipelines, state, heartbeat_at)
        VALUES ('gone', 'a', 1, 'cpu', 'reviews', 'm', '{{}}', 'ready', {past})""",
    )
    now = database.sql.now
    execute(
        database, f"INSERT INTO maintenance_tasks (name, next_run_at, failures_in_a_row) VALUES ('reclaim', {now}, 3)"
    )
    execute(
        database,
        f"""INSERT INTO batch_events (batch_id, kind, payload, webhook_url, delivery_attempts, next_delivery_at)
        VALUES ('b', 'ended', '{{}}', 'https://example.com', 2, {now})""",
    )

    samples = scrape(client)

    assert sample(samples, "workers", pipeline="reviews", state="gone") == 1
    assert sample(samples, "maintenance_failures_in_a_row", task="reclaim") == 3
    assert sample(samples, "webhooks_undelivered", kind="batch") == 1
    assert sample(samples, "webhooks_undelivered", kind="schedule") == 0


def test_counts_requests_by_route_and_never_by_path(client: TestClient) -> None:
    client.get("/api/batches/canary-4711")
    client.get("/canary-4711")
    client.request("CANARY", "/healthz")
    for _ in range(3):
        client.get("/healthz")

    response = client.get("/metrics")
    samples = scrape(client)

    assert "canary" not in response.text.lower()
    assert sample(samples, "http_requests_total", route="/healthz", method="GET", status="2xx") == 3
    assert sample(samples, "http_requests_total", route="/api/batches/{batch_id}", method="GET", status="4xx") == 1
    assert sample(samples, "http_requests_total", route="other", method="GET", status="4xx") == 1
    assert sample(samples, "http_request_seconds_count", route="/healthz", method="GET") == 3
    assert sample(samples, "http_requests_in_flight") == 1


def test_count_a_request_that_its_client_breaks_off_as_the_client_s(database: Database) -> None:
    app = patient_app(ServerContext(Settings.load(), database, Catalogue({})))

    @app.post("/trial")
    async def trial() -> None:
        raise ClientDisconnect

    @app.post("/defect")
    async def fail() -> None:
        raise ValueError

    with TestClient(app, raise_server_exceptions=False) as client:
        for path in ("/trial", "/defect"):
            with suppress(Exception):  # there is no response
                client.post(path)
        samples = scrape(client)

    assert sample(samples, "http_requests_total", route="/trial", method="POST", status="4xx") == 1
    assert sample(samples, "http_requests_total", route="/trial", method="POST", status="5xx") is None
    assert sample(samples, "http_requests_total", route="/defect", method="POST", status="5xx") == 1


def test_are_for_the_operator(client: TestClient, database: Database) -> None:
    everyone, tenant, reader = (
        keys.create_key(database, KeyRequest(name, scopes))
        for name, scopes in ((None, (Scope.ADMIN,)), ("a", (Scope.ADMIN,)), (None, (Scope.READ,)))
    )

    statuses = [
        client.get("/metrics", headers={"authorization": f"Bearer {key.text}"}).status_code
        for key in (everyone, tenant, reader)
    ]

    assert statuses == [200, 403, 403]
    assert client.get("/metrics").status_code == 401


def test_are_read_once_for_several_scrapes(database: Database) -> None:
    now = [1_000.0]
    reads = []

    def read() -> object:
        reads.append(now[0])
        return read_numbers(database, Settings.load())

    collector = DatabaseCollector(read, lambda: now[0])  # type: ignore[arg-type]

    for moment in (1_000.0, 1_000.0 + CACHE_SECONDS, 1_001.0 + CACHE_SECONDS):
        now[0] = moment
        assert len(list(collector.collect())) > 10

    assert reads == [1_000.0, 1_001.0 + CACHE_SECONDS]


def test_without_a_database_only_tell_so() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none", connect_timeout_seconds=0.1)
    app = patient_app(ServerContext(Settings.load(), database, Catalogue({})))
    collector = DatabaseCollector(lambda: read_numbers(database, Settings.load()))

    families = {family.name: family for family in collector.collect()}
    with TestClient(app, raise_server_exceptions=False) as client:
        client.get("/healthz")
        samples = scrape(client)

    assert {name: family.samples[0].value for name, family in families.items()} == {"batchmill_database_up": 0}
    assert sample(samples, "database_up") == 0
    assert sample(samples, "http_requests_total", route="/healthz", method="GET", status="2xx") == 1
    assert {name for name, _ in samples if not name.startswith("batchmill_http_")} == {"batchmill_database_up"}
    database.close()
