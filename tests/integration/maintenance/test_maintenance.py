"""Maintenance on both databases: one process of many runs each task, and another after it crashed."""

from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from models.db import Database
from models.errors import Unreachable
from models.lifecycle import wakeups
from models.settings import Settings
from producer.health import database_stats, findings
from tests.factories.batch_rows import PIPELINE, claimant_for, execute, expire_leases, get_slice, insert_batch
from tests.threads import run_concurrently
from worker.leasing import claims
from worker.maintenance import resend_wakeups, tasks
from worker.maintenance.loop import MaintenanceLoop
from worker.maintenance.tasks import MaintenanceTask

HOUR = 3600.0


def one(
    database: Database, run: Any, who: str = "worker-1", seconds: float = HOUR, name: str = "sweep"
) -> MaintenanceLoop:
    return MaintenanceLoop(
        database, [MaintenanceTask(name, seconds, run, "sweep.done")], who, reclaim_grace_seconds=5.0
    )


def row(database: Database, name: str = "sweep") -> Any:
    with database.read() as connection:
        return connection.execute(text("SELECT * FROM maintenance_tasks WHERE name = :name"), {"name": name}).one()


class TestTurns:
    def test_of_many_at_once_one_does_it(self, database: Database) -> None:
        done: list[str] = []
        many = [one(database, lambda who=f"worker-{n}": done.append(who) or "", f"worker-{n}") for n in range(6)]

        run_concurrently(*[lambda each=each: each.run_once(0.0) for each in many])

        assert len(done) == 1
        assert row(database).last_run_by == done[0]

    def test_come_again_after_the_interval(self, database: Database) -> None:
        done: list[int] = []
        mine, yours = (one(database, lambda: done.append(1) or "") for _ in range(2))
        mine.run_once(0.0)
        yours.run_once(HOUR + 1)
        assert len(done) == 1, "its own clock says so, but not the database's"

        execute(database, "UPDATE maintenance_tasks SET next_run_at = last_run_at")
        yours.run_once(2 * HOUR + 2)

        assert len(done) == 2

    def test_of_one_that_died_half_way_are_somebody_else_s(self, database: Database) -> None:
        done: list[int] = []

        def die() -> str:
            raise SystemExit

        with pytest.raises(SystemExit):
            one(database, die).run_once(0.0)
        execute(database, "UPDATE maintenance_tasks SET next_run_at = last_run_at")
        one(database, lambda: done.append(1) or "", "worker-2").run_once(0.0)

        assert done == [1]

    def test_tell_what_they_did(self, database: Database) -> None:
        one(database, lambda: "queued three slices").run_once(0.0)

        assert row(database).last_effect == "queued three slices"
        assert row(database).last_effect_at is not None

    def test_with_nothing_to_do_tell_nothing(self, database: Database) -> None:
        one(database, lambda: "").run_once(0.0)

        assert (row(database).last_effect, row(database).last_run_by) == (None, "worker-1")


class TestReclaiming:
    def test_waits_a_moment_after_an_outage(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        insert_batch(database, 4)
        [lapsed] = claims.claim(database, claimant_for("worker-2"), 1, 4)
        expire_leases(database, lapsed)
        chores = one(database, lambda: tasks.reclaim_expired_leases(database, 3), seconds=1.0, name=tasks.RECLAIM_TASK)

        def away() -> Any:
            raise Unreachable("away")

        with monkeypatch.context() as patch:
            patch.setattr(database, "write", away)
            with pytest.raises(Unreachable):
                chores.run_once(100.0)
        chores.run_once(104.9)
        assert get_slice(database, lapsed).state == "leased", "its holder may be as alive as we are"

        chores.run_once(105.0)
        assert get_slice(database, lapsed).state == "queued"


class TestBells:
    @pytest.fixture
    def settings(self, redis_url: str) -> Settings:
        return Settings.load(redis_url=redis_url)

    def depth(self, settings: Settings) -> int:
        return wakeups.queue_depths(settings, [PIPELINE])[PIPELINE]

    def make_old(self, database: Database) -> None:
        execute(database, "UPDATE batches SET in_progress_at = created_at")

    def test_ring_anew_where_redis_has_none(self, database: Database, settings: Settings) -> None:
        insert_batch(database, 40)
        self.make_old(database)

        assert resend_wakeups.resend_lost_wakeups(database, settings) == f"wakeups resent: 10 for {PIPELINE}"

        assert self.depth(settings) == 10

    def test_do_not_ring_where_some_are_left(self, database: Database, settings: Settings) -> None:
        insert_batch(database, 40)
        self.make_old(database)
        wakeups.send_wakeups(settings, PIPELINE, 1)

        assert resend_wakeups.resend_lost_wakeups(database, settings) == ""

        assert self.depth(settings) == 1

    def test_do_not_ring_for_what_is_not_due(self, database: Database, settings: Settings) -> None:
        insert_batch(database, 4)
        self.make_old(database)
        execute(database, "UPDATE slices SET available_at = '2100-01-01'")

        assert resend_wakeups.resend_lost_wakeups(database, settings) == ""

    def test_do_not_ring_for_what_was_submitted_just_now(self, database: Database, settings: Settings) -> None:
        insert_batch(database, 4)
        execute(database, f"UPDATE batches SET in_progress_at = {database.sql.now}")

        assert resend_wakeups.resend_lost_wakeups(database, settings) == ""

    def test_that_cannot_ring_say_nothing(self, database: Database) -> None:
        insert_batch(database, 4)
        self.make_old(database)

        assert resend_wakeups.resend_lost_wakeups(database, Settings.load(redis_url="redis://127.0.0.1:1/0")) == ""


class TestADefect:
    def test_is_put_off_noted_and_logged_once_and_the_others_go_on(self, database: Database) -> None:
        done: list[int] = []

        def fails() -> str:
            raise KeyError("a secret")

        both = MaintenanceLoop(
            database,
            [
                MaintenanceTask("ails", HOUR, fails, "ails.done"),
                MaintenanceTask("sweep", HOUR, lambda: done.append(1) or "", "sweep.done"),
            ],
            "worker-1",
            reclaim_grace_seconds=5.0,
        )

        with capture_logs() as logs:
            for turn in range(3):
                both.run_once(turn * (HOUR + 1))
                execute(database, "UPDATE maintenance_tasks SET next_run_at = last_run_at")

        assert len(done) == 3
        failed = [line for line in logs if line["event"] == "maintenance.task_failed"]
        assert [line["exc_info"] is not None for line in failed] == [True, False, False]
        assert [line["retry_seconds"] for line in failed] == [HOUR, HOUR, HOUR]
        assert row(database, "ails").last_failure == "KeyError"
        views = {view.name: view for view in database_stats.list_maintenance_tasks(database)}
        assert (views["ails"].last_failure, views["sweep"].last_failure) == ("KeyError", None)
        assert [finding.level for finding in findings.check_maintenance(views.values(), 2 * HOUR)] == ["problem", "ok"]

    def test_that_has_passed_is_named_no_more(self, database: Database) -> None:
        outcomes: list[Exception | str] = [KeyError(), ""]

        def turn() -> str:
            if isinstance(outcome := outcomes.pop(0), Exception):
                raise outcome
            return outcome

        mine = one(database, turn)
        mine.run_once(0.0)
        execute(database, "UPDATE maintenance_tasks SET next_run_at = last_run_at")
        mine.run_once(HOUR + 1)

        [view] = database_stats.list_maintenance_tasks(database)
        assert view.last_failure is None
