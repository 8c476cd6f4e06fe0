"""Maintenance on both databases: one process of many runs each task, and another after it crashed."""

import re
import threading
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from models.db import Database
from models.errors import LockTimeout, Unreachable
from models.lifecycle import wakeups
from models.settings import Settings
from producer.health import database_stats, findings
from tests.factories.batch_rows import PIPELINE, claimant_for, execute, expire_leases, get_slice, insert_batch
from tests.servers import WAIT_TIMEOUT_SECONDS
from tests.threads import run_concurrently
from worker.leasing.claiming import claims
from worker.maintenance import batch_endings, resend_wakeups, tasks
from worker.maintenance.loop import MAX_BLOCKED_RUNS, MaintenanceLoop
from worker.maintenance.tasks import MaintenanceTask

HOUR = 3600.0
PAST = "UPDATE maintenance_tasks SET next_run_at = '2026-01-01 00:00:00'"


def make_loop(
    database: Database, run: Any, holder_id: str = "worker-1", seconds: float = HOUR, name: str = "sweep"
) -> MaintenanceLoop:
    return MaintenanceLoop(
        database, [MaintenanceTask(name, seconds, run, "sweep.done")], holder_id, reclaim_grace_seconds=5.0
    )


def row(database: Database, name: str = "sweep") -> Any:
    with database.read() as connection:
        return connection.execute(text("SELECT * FROM maintenance_tasks WHERE name = :name"), {"name": name}).one()


@pytest.mark.parametrize(("is_routine", "level"), [(False, "warning"), (True, "info")])
def test_what_is_daily_routine_is_no_warning(database: Database, is_routine: bool, level: str) -> None:
    task = MaintenanceTask("sweep", HOUR, lambda: "swept", "sweep.done", is_routine=is_routine)

    with capture_logs() as logs:
        MaintenanceLoop(database, [task], "worker-1", reclaim_grace_seconds=5.0).run_once(0.0)

    assert [log["log_level"] for log in logs if log["event"] == "sweep.done"] == [level]


def test_old_minutes_of_activity_go_though_batches_can_t_be_deleted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_database: Database, _days: float | None) -> str:
        raise ValueError

    monkeypatch.setattr(batch_endings, "delete_old_batches", fail)
    columns = "(minute, worker_id, tenant, pipeline, error_code)"
    execute(database, f"INSERT INTO activity {columns} VALUES (9, '', 't', 'p', '')")
    chosen = [
        task
        for task in tasks.default_tasks(database, Settings(retention_days=1))
        if task.name in ("retention", "activity")
    ]

    MaintenanceLoop(database, chosen, "worker-1", reclaim_grace_seconds=5.0).run_once(0.0)

    assert row(database, "activity").last_effect == "deleted 1 row of old minutes"
    assert row(database, "retention").failures_in_a_row == 1


class TestTurns:
    def test_of_many_at_once_one_does_it(self, database: Database) -> None:
        done: list[str] = []
        loops = [
            make_loop(database, lambda name=f"worker-{n}": done.append(name) or "", f"worker-{n}") for n in range(6)
        ]

        run_concurrently(*[lambda loop=loop: loop.run_once(0.0) for loop in loops])

        assert len(done) == 1
        assert row(database).last_run_by == done[0]

    def test_come_again_after_the_interval(self, database: Database) -> None:
        done: list[int] = []
        loop, other_loop = (make_loop(database, lambda: done.append(1) or "") for _ in range(2))
        loop.run_once(0.0)
        other_loop.run_once(HOUR + 1)
        assert len(done) == 1, "its own clock says so, but not the database's"

        execute(database, "UPDATE maintenance_tasks SET next_run_at = last_run_at")
        other_loop.run_once(2 * HOUR + 2)

        assert len(done) == 2

    def test_of_one_that_died_half_way_are_somebody_else_s(self, database: Database) -> None:
        done: list[int] = []

        def crash() -> str:
            raise SystemExit

        with pytest.raises(SystemExit):
            make_loop(database, crash).run_once(0.0)
        execute(database, "UPDATE maintenance_tasks SET next_run_at = last_run_at")
        make_loop(database, lambda: done.append(1) or "", "worker-2").run_once(0.0)

        assert done == [1]

    def test_begin_at_once_in_a_process_that_may_not_last(self, database: Database) -> None:
        done: list[str] = []
        begun = threading.Event()
        every = [
            MaintenanceTask(name, HOUR, lambda name=name: done.append(name) or begun.set() or "", "sweep.done")
            for name in ("sweep", tasks.RECLAIM_TASK)
        ]
        loop = MaintenanceLoop(database, every, "worker-1", reclaim_grace_seconds=5.0)

        loop.start()
        is_begun = begun.wait(WAIT_TIMEOUT_SECONDS)
        loop.stop()

        assert is_begun
        assert done == ["sweep"], "holders of leases get a moment"

    def test_tell_what_they_did(self, database: Database) -> None:
        make_loop(database, lambda: "queued three slices").run_once(0.0)

        assert row(database).last_effect == "queued three slices"
        assert row(database).last_effect_at is not None

    def test_with_nothing_to_do_tell_nothing(self, database: Database) -> None:
        make_loop(database, lambda: "").run_once(0.0)

        assert (row(database).last_effect, row(database).last_run_by) == (None, "worker-1")


class TestReclaiming:
    def test_waits_a_moment_after_an_outage(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        insert_batch(database, 4)
        [expired] = claims.claim(database, claimant_for("worker-2"), 1, 4)
        expire_leases(database, expired)
        loop = make_loop(
            database, lambda: tasks.reclaim_expired_leases(database, 3), seconds=1.0, name=tasks.RECLAIM_TASK
        )

        def fail_unreachable() -> Any:
            raise Unreachable("away")

        with monkeypatch.context() as patch:
            patch.setattr(database, "write", fail_unreachable)
            with pytest.raises(Unreachable):
                loop.run_once(100.0)
        loop.run_once(104.9)
        assert get_slice(database, expired).state == "leased", "its holder may be as alive as we are"

        loop.run_once(105.0)
        assert get_slice(database, expired).state == "queued"


class TestWakeups:
    @pytest.fixture
    def settings(self, redis_url: str) -> Settings:
        return Settings.load(redis_url=redis_url)

    def depth(self, settings: Settings) -> int:
        return wakeups.queue_depths(settings, [PIPELINE])[PIPELINE]

    def make_old(self, database: Database) -> None:
        execute(database, "UPDATE batches SET in_progress_at = created_at")

    def test_are_sent_again_where_redis_has_none(self, database: Database, settings: Settings) -> None:
        insert_batch(database, 40)
        self.make_old(database)

        assert resend_wakeups.resend_lost_wakeups(database, settings) == f"wakeups resent: 10 for {PIPELINE}"

        assert self.depth(settings) == 10

    def test_are_not_sent_where_some_are_left(self, database: Database, settings: Settings) -> None:
        insert_batch(database, 40)
        self.make_old(database)
        wakeups.send_wakeups(settings, PIPELINE, 1)

        assert resend_wakeups.resend_lost_wakeups(database, settings) == ""

        assert self.depth(settings) == 1

    def test_are_not_sent_for_slices_that_are_not_due(self, database: Database, settings: Settings) -> None:
        insert_batch(database, 4)
        self.make_old(database)
        execute(database, "UPDATE slices SET available_at = '2100-01-01'")

        assert resend_wakeups.resend_lost_wakeups(database, settings) == ""

    def test_are_not_sent_for_a_new_batch(self, database: Database, settings: Settings) -> None:
        insert_batch(database, 4)
        execute(database, f"UPDATE batches SET in_progress_at = {database.sql.now}")

        assert resend_wakeups.resend_lost_wakeups(database, settings) == ""

    def test_are_not_sent_for_slices_that_were_claimed_meanwhile(
        self, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        insert_batch(database, 4)
        self.make_old(database)

        def claim_all_and_measure(*_arguments: object) -> dict[str, int]:
            execute(database, "UPDATE slices SET available_at = '2100-01-01'")
            return {PIPELINE: 0}

        monkeypatch.setattr(wakeups, "queue_depths", claim_all_and_measure)

        assert resend_wakeups.resend_lost_wakeups(database, settings) == ""

    def test_that_cannot_be_sent_report_nothing(self, database: Database) -> None:
        insert_batch(database, 4)
        self.make_old(database)

        assert resend_wakeups.resend_lost_wakeups(database, Settings.load(redis_url="redis://127.0.0.1:1/0")) == ""


class TestADefect:
    def test_is_put_off_noted_and_logged_once_and_the_others_go_on(self, database: Database) -> None:
        done: list[int] = []

        def fails() -> str:
            raise KeyError("a secret")

        loop = MaintenanceLoop(
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
                loop.run_once(turn * (HOUR + 1))
                execute(database, "UPDATE maintenance_tasks SET next_run_at = last_run_at")

        assert len(done) == 3
        failed = [line for line in logs if line["event"] == "maintenance.task_failed"]
        assert [line["exc_info"] is not None for line in failed] == [True, False, False]
        assert [line["retry_seconds"] for line in failed] == [HOUR, HOUR, HOUR]
        assert row(database, "ails").last_failure == "KeyError"
        views = {view.name: view for view in database_stats.list_maintenance_tasks(database)}
        assert (views["ails"].last_failure, views["ails"].failures_in_a_row) == ("KeyError", 3)
        assert (views["sweep"].last_failure, views["sweep"].failures_in_a_row) == (None, 0)
        assert [finding.level for finding in findings.check_maintenance(views.values(), 2 * HOUR)] == ["problem", "ok"]

    def test_that_has_passed_is_no_problem_any_more(self, database: Database) -> None:
        outcomes: list[Exception | str] = [KeyError(), ""]

        def run() -> str:
            if isinstance(outcome := outcomes.pop(0), Exception):
                raise outcome
            return outcome

        loop = make_loop(database, run)
        loop.run_once(0.0)
        execute(database, "UPDATE maintenance_tasks SET next_run_at = last_run_at")
        loop.run_once(HOUR + 1)

        [view] = database_stats.list_maintenance_tasks(database)
        assert (view.last_failure, view.failures_in_a_row) == ("KeyError", 0)
        [finding] = findings.check_maintenance([view], 2 * HOUR)
        assert finding.level == "ok"
        assert re.fullmatch(r"sweep ran \d+ s ago; \d+ s ago it failed by a defect \(KeyError\)", finding.message)

    @pytest.mark.parametrize("together", [True, False])
    def test_in_one_question_for_work_stops_no_other_task(self, database: Database, together: bool) -> None:
        done: list[int] = []
        broken = MaintenanceTask("broken", 2.0, lambda: "", "broken.done", has_work="missing_column > 1")
        sweep = MaintenanceTask("sweep", 2.0, lambda: done.append(1) or "", "sweep.done")
        loop = MaintenanceLoop(
            database, [broken, sweep] if together else [sweep, broken], "worker-1", reclaim_grace_seconds=5.0
        )

        for now in (0.0, 2.0, 4.0):
            execute(database, PAST)
            loop.run_once(now)

        assert len(done) == 3
        assert (row(database, "broken").failures_in_a_row, row(database, "sweep").failures_in_a_row) == (2, 0)

    def test_that_goes_on_counts_over_processes(self, database: Database) -> None:
        def fail() -> str:
            raise KeyError

        for number in range(3):
            make_loop(database, fail, f"worker-{number}").run_once(0.0)
            execute(database, PAST)

        assert row(database).failures_in_a_row == 3

    @pytest.mark.parametrize("at_once", [True, False])
    def test_of_the_claim_counts_once_for_all_processes(self, database: Database, at_once: bool) -> None:
        def make_broken_loop(number: int) -> MaintenanceLoop:
            broken = MaintenanceTask("sweep", 100.0, lambda: "", "sweep.done", has_work="missing_column > 1")
            return MaintenanceLoop(database, [broken], f"worker-{number}", reclaim_grace_seconds=5.0)

        loops = [make_broken_loop(number) for number in range(5)]
        with capture_logs() as logged:
            if at_once:
                run_concurrently(*[lambda loop=loop: loop.run_once(0.0) for loop in loops])
            else:
                for loop in loops:
                    loop.run_once(0.0)

        assert row(database).failures_in_a_row == 1
        failures = [line for line in logged if line["event"] == "maintenance.task_failed"]
        assert [line["retry_seconds"] for line in failures] == [200.0]

        execute(database, PAST)
        loops[-1].run_once(200.0)
        assert row(database).failures_in_a_row == 2, "the error lasted until the next run was due"

    def test_is_put_off_for_every_process(self, database: Database) -> None:
        runs: list[int] = []

        def fail() -> str:
            runs.append(1)
            raise KeyError

        for number in range(3):
            make_loop(database, fail, f"worker-{number}").run_once(0.0)

        assert len(runs) == 1

    def test_is_what_an_always_locked_row_becomes(self, database: Database) -> None:
        def block() -> str:
            raise LockTimeout("a row is locked")

        loop = make_loop(database, block, seconds=1.0)
        for turn in range(MAX_BLOCKED_RUNS + 1):
            loop.run_once(float(turn))
            execute(database, PAST)

        assert row(database).failures_in_a_row == 1
        assert row(database).last_failure == "a row is locked"


class TestWork:
    def test_without_any_a_task_does_not_run(self, database: Database) -> None:
        done: list[int] = []
        idle = MaintenanceTask("sweep", HOUR, lambda: done.append(1) or "", "sweep.done", has_work="1 > 2")
        unfinished = MaintenanceTask(
            "tick", HOUR, lambda: done.append(2) or "", "tick.done", has_work="1 > 2", is_unfinished=lambda: True
        )

        MaintenanceLoop(database, [idle, unfinished], "worker-1", reclaim_grace_seconds=5.0).run_once(0.0)

        assert done == [2]
        assert row(database).last_run_by == "worker-1"

    def test_is_left_to_a_process_that_can_do_it(self, database: Database) -> None:
        # Given a process that can do nothing for now, and comes first at each turn
        done: list[str] = []
        can_run = iter([True, False])
        loops = [
            MaintenanceLoop(
                database,
                [MaintenanceTask("sweep", HOUR, lambda name=name: done.append(name) or "", "sweep.done", can_run=able)],
                name,
                reclaim_grace_seconds=5.0,
            )
            for name, able in (("unable", lambda: next(can_run)), ("able", lambda: True))
        ]

        # When the work is due again
        for now in (0.0, HOUR + 1):
            for loop in loops:
                loop.run_once(now)
            execute(database, PAST)

        # Then the other one does it
        assert done == ["unable", "able"]

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("reclaim", "UPDATE slices SET state = 'leased', lease_expires_at = '2026-01-01 00:00:00'"),
            ("clock_steps", "UPDATE slices SET state = 'leased', lease_expires_at = '2100-01-01 00:00:00'"),
            ("clock_steps", "UPDATE slices SET available_at = '2100-01-01 00:00:00'"),
            ("deadlines", "UPDATE batches SET expires_at = '2026-01-01 00:00:00'"),
            ("terminations", "UPDATE batches SET status = 'cancelling'"),
            ("wakeups", "UPDATE batches SET priority = 0"),
            ("abandoned_submissions", "UPDATE batches SET status = 'validating'"),
            ("abandoned_submissions", "UPDATE batches SET ingesting = true"),
            ("retention", "UPDATE batches SET status = 'deleting'"),
            ("sessions", "INSERT INTO sessions (token_hash, key_id, expires_at) VALUES ('h', 'k', '2026-01-01 00:00')"),
        ],
    )
    def test_is_found_by_the_question_of_its_task(self, database: Database, name: str, change: str) -> None:
        [task] = [task for task in tasks.default_tasks(database, Settings()) if task.name == name]

        def has_work() -> bool:
            with database.read() as connection:
                return bool(connection.scalar(text(f"SELECT {task.has_work}")))

        assert not has_work()
        insert_batch(database, 4)
        execute(database, change)
        assert has_work()
