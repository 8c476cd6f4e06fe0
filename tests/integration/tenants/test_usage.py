"""Usage: counted with the results, once, and reported by day, tenant and pipeline."""

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Connection, text

import batchmill
from models.db import Database
from models.errors import UsageError
from models.states import JobOutcome
from producer.tenants import usage as reports
from producer.tenants.usage import Days, UsageRow
from tests.factories.batch_rows import assert_usage_equals_counters, claimant_for, execute, expire_leases, insert_batch
from worker.leasing import commit, reclaim, usage
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.leasing.leases import Lease

TODAY = Days(*(datetime.now(UTC).date() + timedelta(days=days) for days in (-1, 1)))


def take(database: Database, worker_id: str = "worker-1", *, room: int = 1000) -> list[Lease]:
    return claims.claim(database, claimant_for(worker_id), room, 4)


def answer(database: Database, leases: list[Lease], worker_id: str = "worker-1", *, fails: bool = False) -> None:
    outcome = JobOutcome.FAILED if fails else JobOutcome.SUCCEEDED
    with database.write() as connection:
        works = []
        for lease in sorted(leases, key=lambda lease: lease.batch_id):
            cost = {"tokens": 5, "padded_tokens": 8, "device_seconds": 0.5}
            places = range(lease.start_position, lease.start_position + lease.size)
            results = [JobResult(lease, place, outcome, "{}", **cost) for place in places]  # type: ignore[arg-type]
            works.append(commit.commit_results(connection, BatchCommit([lease], results, {lease.slice_id})).work)
        usage.add_usage(connection, [work for work in works if work], worker_id)


def shards(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(text("SELECT count(*) FROM usage")) or 0


def run(*arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, ["usage", *arguments])


class TestCounting:
    def test_by_tenant_and_pipeline_whatever_worker_computed(self, database: Database) -> None:
        ids = [insert_batch(database, 4, tenant=tenant) for tenant in ("acme", "other", "acme")]
        first, second, third = sorted(take(database), key=lambda lease: ids.index(lease.batch_id))
        answer(database, [first, second])
        answer(database, [third], "worker-of-another-shard", fails=True)

        rows = reports.read_usage(database, TODAY)

        assert [(row.tenant, row.pipeline, row.succeeded, row.failed) for row in rows] == [
            ("acme", "reviews", 4, 4),
            ("other", "reviews", 4, 0),
        ]
        assert [(row.tokens, row.padded_tokens, row.device_seconds) for row in rows] == [(40, 64, 4.0), (20, 32, 2.0)]
        assert shards(database) == 3
        assert reports.read_usage(database, TODAY, "other") == rows[1:]
        assert reports.read_usage(database, TODAY, "nobody") == []
        assert_usage_equals_counters(database)

    def test_a_worker_that_lost_its_lease_counts_nothing(self, database: Database) -> None:
        insert_batch(database, 4, tenant="acme")
        slow = take(database)
        expire_leases(database, *slow)
        reclaim.reclaim_expired(database, 3)
        answer(database, take(database, "worker-2"), "worker-2")
        answer(database, slow)

        [row] = reports.read_usage(database, TODAY)

        assert (row.succeeded, row.tokens) == (4, 20)
        assert_usage_equals_counters(database)

    def test_a_transaction_that_fails_counts_nothing(self, database: Database) -> None:
        insert_batch(database, 4)
        [lease] = take(database)

        def fail(connection: Connection) -> None:
            results = [JobResult(lease, 0, JobOutcome.SUCCEEDED, "{}")]
            work = commit.commit_results(connection, BatchCommit([lease], results)).work
            assert work is not None
            usage.add_usage(connection, [work], "worker-1")
            raise RuntimeError

        with pytest.raises(RuntimeError):
            database.transact(fail)

        assert reports.read_usage(database, TODAY) == []

    def test_the_time_of_guards_counts(self, database: Database) -> None:
        insert_batch(database, 1)
        [lease] = take(database)
        seconds = {"a": 0.25, "b": 0.5}
        results = [JobResult(lease, 0, JobOutcome.SUCCEEDED, "{}", device_seconds=1.0, guard_seconds=seconds)]

        with database.write() as connection:
            work = commit.commit_results(connection, BatchCommit([lease], results)).work

        assert work is not None
        assert work.device_seconds == 1.75


class TestReport:
    @pytest.fixture(autouse=True)
    def days(self, database: Database) -> None:
        for day, tenant, shard in (
            ("2026-11-01", "acme", 0),
            ("2026-11-01", "acme", 1),
            ("2026-11-02", "acme", 0),
            ("2026-11-02", "other", 0),
        ):
            execute(
                database,
                "INSERT INTO usage (day, tenant, pipeline, shard, succeeded, device_seconds) "
                "VALUES (:day, :tenant, 'reviews', :shard, 10, 0.5)",
                day=day,
                tenant=tenant,
                shard=shard,
            )

    def test_days_are_included(self, database: Database) -> None:
        first, second = date(2026, 11, 1), date(2026, 11, 2)

        assert [row.succeeded for row in reports.read_usage(database, Days(first, first))] == [20]
        assert len(reports.read_usage(database, Days(first, second))) == 3
        assert reports.read_usage(database, Days(second, second), "acme") == [
            UsageRow("2026-11-02", "acme", "reviews", 10, 0, 0, 0, 0.5)
        ]

    def test_too_many_rows(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reports, "MAX_ROWS", 2)

        with pytest.raises(UsageError, match="more than 2 rows"):
            reports.read_usage(database, Days(date(2026, 11, 1), date(2026, 11, 2)))

    @pytest.mark.parametrize("page_rows", [1, 2, 3, 10])
    def test_rows_of_any_number(self, database: Database, page_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
        ever, second = Days(date.min, date.max), date(2026, 11, 2)
        for pipeline in ("a", "sv", "'quoted'"):
            execute(
                database,
                "INSERT INTO usage (day, tenant, pipeline, shard) VALUES ('2026-11-02', 'acme', :name, 0)",
                name=pipeline,
            )
        rows = reports.read_usage(database, ever)
        monkeypatch.setattr(reports, "MAX_ROWS", 2)
        monkeypatch.setattr(reports, "PAGE_ROWS", page_rows)

        assert len(rows) == 6
        assert list(reports.iterate_usage(database, ever)) == rows
        assert list(reports.iterate_usage(database, Days(date.min, second), "acme")) == rows[:-1]
        assert list(reports.iterate_usage(database, Days(second, second))) == rows[1:]
        assert list(reports.iterate_usage(database, Days(date(2026, 11, 3), date.max))) == []

    def test_a_summary_by_day(self, database: Database) -> None:
        days = Days(date(2026, 11, 1), date(2026, 11, 2))

        by_day, by_tenant = reports.read_summary(database, days)

        assert by_day == [
            UsageRow("2026-11-01", "", "reviews", 20, 0, 0, 0, 1.0),
            UsageRow("2026-11-02", "", "reviews", 20, 0, 0, 0, 1.0),
        ]
        assert [(row.tenant, row.succeeded) for row in by_tenant] == [("acme", 30), ("other", 10)]
        assert reports.read_summary(database, days, "other", "spam") == (
            [UsageRow("2026-11-02", "", "reviews", 10, 0, 0, 0, 0.5)],
            [],
        )

    def test_a_summary_by_month(self, database: Database) -> None:
        by_month, _ = reports.read_summary(database, Days(date(2026, 1, 1), date(2026, 12, 31)))

        assert by_month == [UsageRow("2026-11", "", "reviews", 40, 0, 0, 0, 2.0)]

    def test_the_command(self, database: Database) -> None:
        days = ("--since", "2026-11-01", "--until", "2026-11-02")
        table, as_json, as_csv = run(*days), run(*days, "--json"), run(*days, "--csv", "--tenant", "other")

        assert table.stdout.splitlines()[1].split() == ["2026-11-01", "acme", "reviews", "20", "0", "0", "0", "1.0"]
        assert json.loads(as_json.stdout)["data"][0] == {
            "object": "usage",
            "day": "2026-11-01",
            "tenant": "acme",
            "pipeline": "reviews",
            "succeeded": 20,
            "failed": 0,
            "tokens": 0,
            "padded_tokens": 0,
            "device_seconds": 1.0,
        }
        [row] = csv.DictReader(io.StringIO(as_csv.stdout))
        assert (row["day"], row["tenant"], row["succeeded"]) == ("2026-11-02", "other", "10")
        assert "nothing was computed" in run("--since", "2020-01-01", "--until", "2020-01-01").stderr
        assert run("--json", "--csv").exit_code == 2


class TestDays:
    NOW = datetime(2026, 11, 30, 23, tzinfo=UTC)

    def test_the_last_thirty_days(self) -> None:
        assert Days.parse(None, None, self.NOW) == (date(2026, 10, 31), date(2026, 11, 30))

    @pytest.mark.parametrize(("since", "until"), [("2026-11-02", "2026-11-01"), ("soon", None), (None, "2026-13-01")])
    def test_what_is_no_report(self, since: str | None, until: str | None) -> None:
        with pytest.raises(UsageError):
            Days.parse(since, until, self.NOW)

    def test_an_age(self) -> None:
        assert Days.parse("0d", None).since in (datetime.now(UTC).date(), datetime.now(UTC).date() - timedelta(days=1))
