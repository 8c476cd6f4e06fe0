"""What is read from `activity`, on both databases."""

import json

import pytest
from click.testing import CliRunner

import batchmill
from models.db import Database
from producer.activity import failures, throughput, utilisation
from producer.batches import workers
from tests import fake_worker
from tests.factories.activity_rows import add_minute, work
from tests.factories.http_server import client_over, key_headers


@pytest.fixture
def hour(database: Database) -> Database:
    """An hour with work of two tenants, and older work."""
    add_minute(database, work("reviews", 60, ("empty_text", 3), tenant="acme"))
    add_minute(database, work("reviews", 40, ("model_error", 2), tenant="other"), worker_id="worker-2", age_minutes=10)
    add_minute(database, work("ner", 7, ("empty_text", 9), tenant="other"), age_minutes=30)
    add_minute(database, work("ner", 1000, ("out_of_memory", 500)), age_minutes=300)
    return database


class TestThroughput:
    def test_of_the_last_hour(self, hour: Database) -> None:
        reviews, ner = throughput.read_throughput(hour).pipelines

        assert (reviews.pipeline, reviews.succeeded, reviews.failed, reviews.tokens) == ("reviews", 100, 5, 210)
        assert (ner.pipeline, ner.jobs, sum(ner.per_minute)) == ("ner", 16, 16)

    def test_of_a_tenant(self, hour: Database) -> None:
        [reviews] = throughput.read_throughput(hour, tenant="acme").pipelines

        assert reviews.jobs == 63
        assert throughput.read_throughput(hour, tenant="nobody").pipelines == ()

    def test_of_a_day(self, hour: Database) -> None:
        assert throughput.read_throughput(hour, 1440).jobs == 1621
        assert throughput.read_throughput(hour, 10**9).span.minutes == 1440


class TestFailures:
    def test_by_code_with_their_pipelines(self, hour: Database) -> None:
        assert [(count.error_code, count.jobs, count.pipelines) for count in failures.count_failures(hour, 60)] == [
            ("empty_text", 12, (("ner", 9), ("reviews", 3))),
            ("model_error", 2, (("reviews", 2),)),
        ]

    def test_of_a_day_and_of_a_tenant(self, hour: Database) -> None:
        assert failures.count_failures(hour, 1440)[0].error_code == "out_of_memory"
        assert [count.jobs for count in failures.count_failures(hour, 60, "acme")] == [3]


class TestWorkers:
    def test_what_each_does(self, database: Database) -> None:
        fake_worker.register_worker(database, "reviews")
        [view] = workers.list_workers(database, 30)
        add_minute(database, work("reviews", 5000), worker_id=view.id)

        found = utilisation.read_worker_activity(database, [view])

        assert found[view.id].jobs == 5000
        assert found[view.id].utilisation > 0

    def test_the_command_shows_it(self, database: Database) -> None:
        fake_worker.register_worker(database, "reviews")
        [view] = workers.list_workers(database, 30)
        add_minute(database, work("reviews", 5000), worker_id=view.id)

        table = CliRunner().invoke(batchmill.cli, ["workers"]).stdout.splitlines()
        [document] = json.loads(CliRunner().invoke(batchmill.cli, ["workers", "--json"]).stdout)["data"]

        assert table[0].split()[5:7] == ["BUSY", "JOBS/S"]
        assert table[1].split()[5].endswith("%")
        assert document["utilisation"] > 0
        assert document["jobs_per_second"] > 0


class TestRoute:
    def test_a_tenant_sees_its_own(self, hour: Database, database_url: str) -> None:
        ours, theirs = key_headers(hour, "acme"), key_headers(hour, None)
        with client_over(hour, database_url) as client:
            mine = client.get("/api/activity", headers=ours).json()
            whole = client.get("/api/activity", params={"minutes": 1440}, headers=theirs).json()

        assert [pipeline["succeeded"] for pipeline in mine["pipelines"]] == [60]
        assert mine["failures"] == [
            {"error_code": "empty_text", "jobs": 3, "pipelines": [{"pipeline": "reviews", "jobs": 3}]}
        ]
        assert len(whole["pipelines"][0]["per_minute"]) == 1440
        assert whole["pipelines"][0]["pipeline"] == "ner"

    @pytest.mark.parametrize("minutes", ["0", "1441", "many"])
    def test_what_is_no_span(self, database: Database, database_url: str, minutes: str) -> None:
        with client_over(database, database_url) as client:
            assert client.get("/api/activity", params={"minutes": minutes}).status_code == 400
