"""Activity: what each worker did in each minute, counted with the results."""

import pytest
from sqlalchemy import text

from models.db import Database
from models.states import AttemptOutcome, JobOutcome
from tests.factories.batch_rows import claimant_for, execute, insert_batch
from worker.leasing import activity, commit, reclaim
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.leasing.leases import Lease
from worker.leasing.usage import ComputedWork

SELECT_ROWS = """
SELECT worker_id, tenant, pipeline, error_code, sum(jobs) AS jobs, sum(tokens) AS tokens,
       sum(device_seconds) AS device_seconds
FROM activity GROUP BY worker_id, tenant, pipeline, error_code ORDER BY worker_id, tenant, pipeline, error_code
"""


def rows(database: Database) -> list[tuple[object, ...]]:
    with database.read() as connection:
        found = connection.execute(text(SELECT_ROWS)).all()
    return [(*row[:4], int(row.jobs), int(row.tokens), float(row.device_seconds)) for row in found]


def answer(database: Database, lease: Lease, codes: list[str | None], worker_id: str) -> None:
    with database.write() as connection:
        results = [
            JobResult(lease, place, JobOutcome.FAILED, error_code=code, tokens=5, device_seconds=0.5)
            if code
            else JobResult(lease, place, JobOutcome.SUCCEEDED, "{}", tokens=5, device_seconds=0.5)
            for place, code in enumerate(codes)
        ]
        work = commit.commit_results(connection, BatchCommit([lease], results, {lease.slice_id})).work
        assert work is not None
        activity.add_activity(connection, [work], worker_id)


def failed_work(*failures: tuple[str, int]) -> ComputedWork:
    return ComputedWork("t", "p", 0, sum(jobs for _, jobs in failures), 0, 0, 0.0, failures)


class TestCounting:
    def test_by_worker_tenant_pipeline_and_code(self, database: Database) -> None:
        for tenant, codes in (("acme", [None, "empty_text", None, "empty_text"]), ("other", [None, "model_error"])):
            insert_batch(database, len(codes), tenant=tenant)
            [lease] = claims.claim(database, claimant_for("w1"), 1000, 4)
            answer(database, lease, codes, "w1")

        assert rows(database) == [
            ("w1", "acme", "reviews", "", 2, 20, 2.0),
            ("w1", "acme", "reviews", "empty_text", 2, 0, 0.0),
            ("w1", "other", "reviews", "", 1, 10, 1.0),
            ("w1", "other", "reviews", "model_error", 1, 0, 0.0),
        ]

    def test_two_commits_of_a_minute_add_up(self, database: Database) -> None:
        with database.write() as connection:
            for _ in range(2):
                activity.add_activity(connection, [ComputedWork("t", "p", 3, 0, 7, 8, 0.25)], "w")

        assert rows(database) == [("w", "t", "p", "", 6, 14, 0.5)]

    def test_work_without_jobs_makes_no_row(self, database: Database) -> None:
        with database.write() as connection:
            activity.add_activity(connection, [ComputedWork("t", "p", 0, 0, 0, 0, 0.0)], "w")

        assert rows(database) == []

    def test_many_codes_of_own_tasks_are_bounded(self, database: Database) -> None:
        codes = [(f"code_{number:03}", 1) for number in range(200)]

        with database.write() as connection:
            activity.add_activity(connection, [failed_work(("often", 9), ("x" * 500, 3), *codes)], "w")

        found = {row[3]: row[4] for row in rows(database)}
        assert len(found) <= activity.MAX_CODES + 1
        assert found["often"] == 9
        assert found["x" * activity.MAX_CODE_CHARACTERS] == 3
        assert sum(int(str(jobs)) for jobs in found.values()) == 212

    def test_a_job_that_is_given_up_counts_without_a_worker(self, database: Database) -> None:
        insert_batch(database, 1)

        for _ in range(2):
            claims.claim(database, claimant_for("w1"), 1000, 4)
            reclaim.reclaim_from_worker(database, "w1", AttemptOutcome.CRASHED, 2)

        assert rows(database) == [("", "default", "reviews", "worker_crashed", 1, 0, 0.0)]


class TestDeletion:
    def insert(self, database: Database, age_minutes: int) -> None:
        minute = activity.CURRENT_MINUTE[database.engine.dialect.name]
        execute(
            database,
            "INSERT INTO activity (minute, worker_id, tenant, pipeline, error_code, jobs) "
            f"VALUES ({minute} - {age_minutes}, 'w', 't', 'p', '', 1)",
        )

    @pytest.mark.parametrize("old", [activity.KEPT_MINUTES + 2, activity.KEPT_MINUTES + 500])
    def test_old_minutes_go_and_the_last_day_stays(self, database: Database, old: int) -> None:
        for age in (0, 5, 1440, old):
            self.insert(database, age)
        dialect = database.engine.dialect.name
        with database.read() as connection:
            assert connection.scalar(text(f"SELECT {activity.has_old_minutes(dialect)}"))

        assert activity.delete_old_minutes(database) == "deleted 1 row of old minutes"
        assert activity.delete_old_minutes(database) == ""

        with database.read() as connection:
            assert connection.scalar(text("SELECT count(*) FROM activity")) == 3
            assert not connection.scalar(text(f"SELECT {activity.has_old_minutes(dialect)}"))
