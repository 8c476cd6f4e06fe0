"""The pages of workers and pipelines."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from models.db import Database
from producer.tenants.principal import Scope
from tests import fake_worker
from tests.factories.activity_rows import add_minute, work
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.http_server import app_over, client_over
from tests.factories.page_clients import browser_over, sign_in_as

PIPELINE = "sample-sentiment-analysis"

INSERT_LOAD_FAILURE = """
INSERT INTO load_failures (worker_name, pipeline, host, device, model, error_code, error_message, attempts,
                           next_attempt_at, first_failed_at, last_failed_at)
VALUES ('here/1', :pipeline, 'gpu-1', 'cuda:0', 'm', 'model_missing', 'the model m is not there', 3,
        {now}, {now}, {now})
"""


@pytest.fixture
def client(database: Database, database_url: str) -> Iterator[TestClient]:
    with client_over(database, database_url) as client:
        client.base_url = "http://127.0.0.1:8000"
        yield client


class TestWorkers:
    def test_what_each_does(self, database: Database, client: TestClient) -> None:
        fake_worker.register_worker(database, PIPELINE)
        fake_worker.register_worker(database, "gone-pipeline", heartbeat_age_seconds=9999.0)
        execute(database, f"UPDATE workers SET started_at = {database.sql.now_plus_seconds}", seconds=-3600.0)
        add_minute(database, work(PIPELINE, 600), worker_id="w-0.0", age_minutes=2)
        execute(database, INSERT_LOAD_FAILURE.format(now=database.sql.now), pipeline="unloadable")

        page = client.get("/workers").text

        assert "10.0 jobs/s" in page
        assert "status-ready" in page
        assert "status-gone" in page
        assert "the model m is not there" in page

    def test_processes_that_share_a_device(self, database: Database, client: TestClient) -> None:
        for seconds in (0.0, 1.0):
            fake_worker.register_worker(database, PIPELINE, heartbeat_age_seconds=seconds)

        assert "Processes that share a device" in client.get("/workers").text

    def test_fifty_are_a_page_and_those_that_are_gone_come_last(self, database: Database, client: TestClient) -> None:
        for number in range(51):
            fake_worker.register_worker(database, f"pipeline-{number:02}", heartbeat_age_seconds=float(number))
        fake_worker.register_worker(database, "a-gone-one", heartbeat_age_seconds=9999.0)

        first, second = client.get("/workers").text, client.get("/workers?page=2").text

        assert "Page 1 of 2: 52 processes, 1 of them gone" in first
        assert "pipeline-00" in first
        assert "a-gone-one" not in first
        assert "a-gone-one" in second
        assert "pipeline-50" in second
        assert "There are 52 processes" in client.get("/workers?page=3").text

    def test_they_are_for_the_operator(self, database: Database, database_url: str) -> None:
        with browser_over(app_over(database, database_url)) as browser:
            sign_in_as(browser, database, "acme", *Scope)

            assert browser.get("/workers").status_code == 403
            assert 'href="/workers"' not in browser.get("/usage").text

    def test_without_workers(self, client: TestClient) -> None:
        page = client.get("/workers").text

        assert "No worker runs" in page
        assert "No maintenance task has run" in page

    def test_maintenance_tasks(self, database: Database, client: TestClient) -> None:
        execute(
            database,
            "INSERT INTO maintenance_tasks (name, next_run_at, last_failed_at, last_failure, failures_in_a_row) "
            f"VALUES ('reclaim', {database.sql.now}, {database.sql.now}, 'OperationalError', 3)",
        )

        page = client.get("/workers").text

        assert "failed 3 times in a row" in page
        assert "OperationalError" in page


class TestPipelines:
    def test_the_list(self, database: Database, client: TestClient) -> None:
        insert_batch(database, 4, pipeline=PIPELINE)
        insert_batch(database, 4, pipeline="removed-pipeline")
        fake_worker.register_worker(database, PIPELINE)

        page = client.get("/pipelines").text
        used, _, others = page.partition("Ready to use")

        assert f'href="/pipelines/{PIPELINE}"' in used
        assert "removed-pipeline" in used
        assert "no longer in the catalogue" in used
        assert 'href="/pipelines/sample-ner"' in others

    def test_a_search(self, client: TestClient) -> None:
        page = client.get("/pipelines", params={"q": "Toxic"}).text

        assert "/pipelines/sample-toxicity" in page
        assert "/pipelines/sample-ner" not in page
        assert "No pipeline matches" in client.get("/pipelines", params={"q": "<b>nothing"}).text

    def test_each_entry_of_the_catalogue_can_be_shown(self, client: TestClient) -> None:
        for name in client.app.state.context.catalogue:  # type: ignore[attr-defined]
            response = client.get(f"/pipelines/{name}")
            assert response.status_code == 200, name
            assert f"batchmill submit rows.jsonl --pipeline {name}" in response.text

    def test_the_models_that_answered(self, database: Database, client: TestClient) -> None:
        batch_id = insert_batch(database, 4, pipeline=PIPELINE, device_seconds=2.0)
        fake_worker.write_results(database, batch_id, [(place, {"label": "A"}) for place in range(4)])

        page = client.get(f"/pipelines/{PIPELINE}").text

        assert "float32" in page
        assert ">2.0</td>" in page

    def test_one_that_only_batches_name(self, database: Database, client: TestClient) -> None:
        batch_id = insert_batch(database, 4, pipeline="removed")
        fake_worker.write_results(database, batch_id, [(0, {"label": "A"})])

        page = client.get("/pipelines/removed")

        assert page.status_code == 200
        assert "The catalogue no longer has this pipeline" in page.text
        assert "/submit?pipeline" not in page.text

    def test_one_that_nobody_has(self, client: TestClient) -> None:
        response = client.get("/pipelines/nothing", headers={"accept": "text/html"})

        assert response.status_code == 404

    def test_why_it_can_t_be_loaded(self, database: Database, client: TestClient) -> None:
        execute(database, INSERT_LOAD_FAILURE.format(now=database.sql.now), pipeline=PIPELINE)

        assert "the model m is not there" in client.get(f"/pipelines/{PIPELINE}").text
