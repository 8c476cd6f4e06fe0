"""Tests of the findings that the doctor decides on."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models.lifecycle.wakeups import ServerInfo
from models.states import RunState
from producer.health import findings, work_findings
from producer.health.database_stats import Backlog, DatabaseServer, MaintenanceTaskView, TransitioningBatch
from producer.schedules import status
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs.run_views import RunView
from producer.schedules.schedule_view import ScheduleView
from producer.schedules.status import ScheduleStatus
from producer.workers.workers import WorkerView

MEGABYTE, GIGABYTE = 1 << 20, 1 << 30
SCHEDULED_AT, DAY = datetime(2026, 3, 2, 2, tzinfo=UTC), timedelta(days=1)


def worker(
    pipeline: str = "p", revision: str = "new", *, alive: bool = True, served_pipelines: list[str] | None = None
) -> WorkerView:
    return WorkerView(
        "w", "host", 7, "cpu", pipeline, "m", revision, served_pipelines or [pipeline], "ready", 1.0, 1.0, 100.0, alive
    )


@pytest.mark.parametrize(
    ("free", "level"), [(2 * GIGABYTE, "ok"), (GIGABYTE - 1, "warning"), (100 * MEGABYTE - 1, "problem")]
)
def test_a_full_disk(free: int, level: str) -> None:
    [finding] = findings.check_disk(Path("/data"), free)

    assert finding.level == level
    assert (finding.advice is None) == (level == "ok")


@pytest.mark.parametrize(
    ("server_info", "level", "words"),
    [
        (ServerInfo("Valkey", "8.1.0", "allkeys-lru", MEGABYTE, 0), "ok", None),
        (ServerInfo("Redis", "7.4.1", "noeviction", MEGABYTE, 2 * MEGABYTE), "ok", None),
        (ServerInfo("Redis", "6.2.0", "noeviction", MEGABYTE, 0), "ok", None),
        (ServerInfo("Redis", "6.0.16", "noeviction", MEGABYTE, 0), "problem", "6.2 or later"),
        (ServerInfo("Redis", "7.4.1", "allkeys-lru", MEGABYTE, 2 * MEGABYTE), "warning", "noeviction"),
        (ServerInfo("Redis", "7.4.1", "noeviction", 19 * MEGABYTE, 20 * MEGABYTE), "warning", "raise maxmemory"),
    ],
)
def test_redis(server_info: ServerInfo, level: str, words: str | None) -> None:
    [finding] = findings.check_redis(server_info, "redis://here")

    assert finding.level == level
    assert f"{server_info.kind} {server_info.version} at redis://here" in finding.message
    assert (words is None and finding.advice is None) or words in finding.advice


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [(4.0, "ok", "1.0 GB"), (180.0, "warning", "3 min ahead of"), (-7.0, "warning", "7 s behind")],
)
def test_a_clock_that_differs_from_ours(ahead: float, level: str, words: str) -> None:
    finding = findings.check_database(DatabaseServer("PostgreSQL", "17.2", GIGABYTE, ahead), "postgresql://here")

    assert finding.level == level
    assert words in finding.message


def test_workers_without_heartbeats_are_warnings() -> None:
    alive, gone = work_findings.check_workers([worker(served_pipelines=["p", "q"]), worker(alive=False)])

    assert (alive.level, alive.message) == ("ok", "1 alive on cpu, for p, q")
    assert gone.level == "warning"
    assert gone.message == "the last heartbeat of process 7 on host (cpu) was 100 s ago"


class TestBacklogs:
    def test_no_backlog_is_ok(self) -> None:
        [finding] = work_findings.check_backlogs([], [], {})

        assert (finding.level, finding.message) == ("ok", "nothing waits")

    def test_a_served_backlog_is_ok(self) -> None:
        backlogs = [Backlog("p", "new", 3, 1, 2, 0), Backlog("q", None, 1, 0, 0, 0)]

        first, second = work_findings.check_backlogs(backlogs, [worker(served_pipelines=["p", "q"])], {"p": 5})

        assert (first.level, first.message) == (
            "ok",
            "p: slices: 3 queued, 2 leased, 1 waiting for retry; wakeups: 5; workers: 1",
        )
        assert (second.level, second.message) == ("ok", "q: slices: 1 queued; workers: 1")

    def test_backlogs_of_one_pipeline_are_told_apart_by_their_revisions(self) -> None:
        backlogs = [Backlog("p", None, 2, 0, 0, 0), Backlog("p", "new", 1, 0, 0, 0), Backlog("q", "new", 1, 0, 0, 0)]

        found = work_findings.check_backlogs(backlogs, [worker(served_pipelines=["p", "q"])], {})

        assert [finding.message for finding in found] == [
            "p: slices of no revision yet: 2 queued; workers: 1",
            "p: slices of revision new: 1 queued; workers: 1",
            "q: slices: 1 queued; workers: 1",
        ]

    @pytest.mark.parametrize("workers", [[], [worker("another")], [worker(alive=False)]])
    def test_a_backlog_without_workers_is_a_problem(self, workers: list[WorkerView]) -> None:
        [finding] = work_findings.check_backlogs([Backlog("p", "new", 3, 0, 0, 0)], workers, {"p": 3})

        assert finding.level == "problem"
        assert finding.advice == "start a worker: batchmill up --pipelines p"

    @pytest.mark.parametrize(
        ("guards_of_workers", "advice"),
        [
            ([(), ("first",)], "batches need guards that no worker has now: second; put them back"),
            ([()], "batches need guards that no worker has now: first, second; put them back"),
            ([("first",), ("second",)], None),  # another batch may need each
        ],
    )
    def test_guards_that_no_worker_has_are_a_warning(
        self, guards_of_workers: list[tuple[str, ...]], advice: str | None
    ) -> None:
        workers = [replace(worker(), guards={"p": names}) for names in guards_of_workers]
        needed = {"p": ["first", "second"], "q": ["third"]}

        [finding] = work_findings.check_backlogs([Backlog("p", "new", 3, 0, 0, 0)], workers, {}, (), needed)

        assert (finding.level, finding.advice) == ("ok" if advice is None else "warning", advice)

    def test_leases_that_are_not_reclaimed_are_a_warning(self) -> None:
        [finding] = work_findings.check_backlogs([Backlog("p", "new", 0, 0, 3, 2)], [worker()], {})

        assert (finding.level, finding.message) == ("warning", "p: slices: 3 leased, 2 lease expired; workers: 1")

    @pytest.mark.parametrize(
        ("workers", "level"),
        [
            ([worker(revision="new")], "warning"),
            ([worker(revision="new"), worker(revision="old")], "ok"),
            ([worker("another", served_pipelines=["another", "p"])], "ok"),  # it may turn out to have the revision
        ],
    )
    def test_a_batch_whose_revision_no_worker_has_is_a_warning(self, workers: list[WorkerView], level: str) -> None:
        [finding] = work_findings.check_backlogs([Backlog("p", "old", 3, 0, 0, 0)], workers, {})

        assert finding.level == level


@pytest.mark.parametrize("status", ["validating", "in_progress", "cancelling"])
def test_stuck_batches_are_warnings(status: str) -> None:
    [finding] = work_findings.check_stuck_batches(
        [TransitioningBatch("b1", status, 30.0), TransitioningBatch("b2", status, 660.0)]
    )

    assert (finding.level, finding.message) == ("warning", f"b2 is {status} without progress for 11 min")
    assert "batchmill cancel b2" in str(finding.advice)


def test_a_batch_whose_file_nobody_reads_needs_a_process_that_has_it() -> None:
    [finding] = work_findings.check_stuck_batches([TransitioningBatch("b1", "validating", 660.0, awaits_reading=True)])

    assert "start a server or a worker that has its file" in str(finding.advice)


def test_maintenance_tasks_that_no_process_runs() -> None:
    maintenance_tasks = [
        MaintenanceTaskView("wakeups", -3.0, 2.0, None, None),
        MaintenanceTaskView("terminations", 80.0, 82.0, 7200.0, "closed b1"),
        MaintenanceTaskView("reclaim", 200_000.0, None, None, None),
    ]

    done, late, never = findings.check_maintenance(maintenance_tasks, 90.0)

    assert (done.level, done.message) == ("ok", "wakeups ran 2 s ago")
    assert (late.level, late.message) == ("ok", "terminations ran 82 s ago; 2 h ago: closed b1")
    assert (never.level, never.message) == ("warning", "reclaim never ran; overdue by 2 d")


@pytest.mark.parametrize(
    ("failure", "failures_in_a_row", "level", "words"),
    [
        ("KeyError", 0, "ok", "reclaim ran 2 s ago; 30 s ago it failed by a defect (KeyError)"),
        ("KeyError", 1, "problem", "reclaim ran 2 s ago; its last run failed, 30 s ago by a defect (KeyError)"),
        (
            "it is full",
            1_200,
            "problem",
            "reclaim ran 2 s ago; its last 1,200 runs failed, 30 s ago because it is full",
        ),
    ],
)
def test_a_maintenance_task_is_a_problem_while_it_fails(
    failure: str, failures_in_a_row: int, level: str, words: str
) -> None:
    task = MaintenanceTaskView("reclaim", -3.0, 2.0, None, None, 30.0, failure, failures_in_a_row)

    [finding] = findings.check_maintenance([task], 90.0)

    assert (finding.level, finding.message) == (level, words)


def status_of(name: str, *, at: datetime = SCHEDULED_AT, **run: Any) -> ScheduleStatus:
    """Return the status of a schedule, with a last run if fields of one are given."""
    definition = ScheduleDefinition.from_fields(name, {"pipeline": "p", "cron": "0 2 * * *", "sql": "tickets"})
    view = ScheduleView(definition, False, None, SCHEDULED_AT - DAY, SCHEDULED_AT, None, SCHEDULED_AT - DAY)
    run_fields = dict.fromkeys(RunView.__dataclass_fields__) | {
        "schedule": name,
        "scheduled_at": SCHEDULED_AT - DAY,
        "definition": {},
    }
    return status.status_for(view, RunView(**{**run_fields, **run}) if run else None, at)  # type: ignore[arg-type]


class TestSchedules:
    def test_healthy_schedules_are_one_line(self) -> None:
        healthy = status_of("healthy", state=RunState.COMPLETED)

        assert [finding.level for finding in findings.check_schedules([healthy], {})] == ["ok"]
        assert list(findings.check_schedules([], {})) == []

    def test_an_overdue_schedule_is_a_problem(self) -> None:
        [finding] = findings.check_schedules([status_of("left", at=SCHEDULED_AT + DAY)], {})

        assert (finding.level, finding.subject) == ("problem", "schedules")
        assert finding.message == "left is overdue since Mon 2026-03-02 02:00 UTC"
        assert "batchmill maintain" in (finding.advice or "")

    @pytest.mark.parametrize(
        ("run", "words"),
        [
            ({"state": RunState.FAILED, "error_code": "too_many_failures"}, "is failed (too_many_failures)"),
            ({"state": RunState.MISSED}, "is missed"),
            ({"state": RunState.RUNNING, "deadline_at": SCHEDULED_AT - DAY / 2}, "is late"),
        ],
    )
    def test_a_failed_missed_or_late_run_is_a_warning(self, run: dict[str, Any], words: str) -> None:
        [finding] = findings.check_schedules([status_of("nightly", **run)], {})

        assert (finding.level, finding.message) == ("warning", f"nightly: the run of Sun 2026-03-01 02:00 UTC {words}")
        assert finding.advice == "see batchmill schedule show nightly"

    def test_undelivered_events_are_a_warning(self) -> None:
        healthy = status_of("healthy", state=RunState.COMPLETED)
        [finding] = findings.check_schedules([healthy], {"healthy": 3})

        assert finding.level == "warning"
        assert finding.message == "healthy: 3 events of the last week never reached its webhook"
