"""What is read from `activity`, on both databases."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from sqlalchemy import text

import batchmill
from models.db import Database
from models.states import BatchStatus
from producer.activity import attention_facts, failures, throughput, utilisation
from producer.workers import workers
from tests import fake_worker
from tests.factories.activity_rows import add_minute, work
from tests.factories.batch_rows import insert_batch, update_batch
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
        assert utilisation.read_utilisation(database, [view])[view.id] > 0

    def test_of_some_alone(self, database: Database) -> None:
        for age_seconds, name in enumerate(("ner", "reviews")):
            fake_worker.register_worker(database, name, heartbeat_age_seconds=float(age_seconds))
        idle, busy = workers.list_workers(database, 30)
        add_minute(database, work("reviews", 5000), worker_id=busy.id)

        assert utilisation.read_worker_activity(database, [idle])[idle.id].jobs == 0
        assert utilisation.read_worker_activity(database, []) == {}
        assert utilisation.read_utilisation(database, [idle]) == {idle.id: 0.0}

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


class TestTroubledBatches:
    def test_are_found_behind_many_others(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attention_facts, "NEWEST_BATCHES", 2)
        failed, partly = insert_batch(database, 1), insert_batch(database, 2, tenant="acme")
        fake_worker.end_batch(database, failed, BatchStatus.FAILED)
        fake_worker.write_results(database, partly, [(0, "model_error")])
        for _ in range(3):
            fake_worker.end_batch(database, insert_batch(database, 1))

        ours, all_of_them = (self.find(database, tenant) for tenant in ("acme", None))

        assert ours == [partly]
        assert all_of_them == [partly, failed]

    def test_of_the_last_day_alone(self, database: Database) -> None:
        old, deleted, cancelled = (insert_batch(database, 1) for _ in range(3))
        fake_worker.end_batch(database, old, BatchStatus.EXPIRED)
        update_batch(database, old, expired_at=datetime.now(UTC) - timedelta(days=2))
        update_batch(database, deleted, status="deleting", failed=1)
        update_batch(database, cancelled, status="cancelled", failed=1)

        assert self.find(database, None) == []

    @pytest.mark.parametrize("of_tenant", ["", attention_facts.OF_TENANT["sqlite"]])
    def test_sqlite_finds_them_by_their_index(self, sqlite_url: str, of_tenant: str) -> None:
        query = attention_facts.SELECT_TROUBLED.format(of_tenant=of_tenant, later="'2026'")
        params = {"newest": 9, "limit": 9} | ({"tenant": "acme"} if of_tenant else {})
        with closing(Database(sqlite_url)) as database, database.read() as connection:
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN {query}"), params).all()

        assert any("batches_troubled" in row.detail for row in plan)

    def find(self, database: Database, tenant: str | None) -> list[str]:
        found = attention_facts.read_facts(
            database, datetime.now(UTC), [], ([], []), throughput.read_throughput(database), tenant
        )
        return [batch.id for batch in found.batches]
