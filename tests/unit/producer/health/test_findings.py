"""What the doctor makes of what it sees."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models.lifecycle.wakeups import ServerInfo
from models.states import RunState
from producer.batches.workers import WorkerView
from producer.health import findings
from producer.health.database_stats import Backlog, DatabaseServer, MaintenanceTaskView, TransitioningBatch
from producer.schedules import status as standings
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.registry import ScheduleView
from producer.schedules.runs.run_views import RunView
from producer.schedules.status import ScheduleStatus

MEGABYTE, GIGABYTE = 1 << 20, 1 << 30
SLOT, DAY = datetime(2026, 3, 2, 2, tzinfo=UTC), timedelta(days=1)


def worker(
    pipeline: str = "p", revision: str = "new", *, alive: bool = True, serves: list[str] | None = None
) -> WorkerView:
    return WorkerView(
        "w", "host", 7, "cpu", pipeline, "m", revision, serves or [pipeline], "ready", 1.0, 1.0, 100.0, alive
    )


@pytest.mark.parametrize(
    ("free", "level"), [(2 * GIGABYTE, "ok"), (GIGABYTE - 1, "warning"), (100 * MEGABYTE - 1, "problem")]
)
def test_a_disk_without_room(free: int, level: str) -> None:
    [finding] = findings.check_disk(Path("/data"), free)

    assert finding.level == level
    assert (finding.advice is None) == (level == "ok")


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (ServerInfo("Valkey", "8.1.0", "allkeys-lru", MEGABYTE, 0), "ok", None),
        (ServerInfo("Redis", "7.4.1", "noeviction", MEGABYTE, 2 * MEGABYTE), "ok", None),
        (ServerInfo("Redis", "6.2.0", "noeviction", MEGABYTE, 0), "ok", None),
        (ServerInfo("Redis", "6.0.16", "noeviction", MEGABYTE, 0), "problem", "6.2 or later"),
        (ServerInfo("Redis", "7.4.1", "allkeys-lru", MEGABYTE, 2 * MEGABYTE), "warning", "noeviction"),
        (ServerInfo("Redis", "7.4.1", "noeviction", 19 * MEGABYTE, 20 * MEGABYTE), "warning", "raise maxmemory"),
    ],
)
def test_redis(facts: ServerInfo, level: str, words: str | None) -> None:
    [finding] = findings.check_redis(facts, "redis://here")

    assert finding.level == level
    assert f"{facts.kind} {facts.version} at redis://here" in finding.message
    assert (words is None and finding.advice is None) or words in finding.advice


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [(4.0, "ok", "1.0 GB"), (180.0, "warning", "3 min ahead of"), (-7.0, "warning", "7 s behind")],
)
def test_a_clock_that_is_not_ours(ahead: float, level: str, words: str) -> None:
    finding = findings.check_database(DatabaseServer("PostgreSQL", "17.2", GIGABYTE, ahead), "postgresql://here")

    assert finding.level == level
    assert words in finding.message


def test_workers_that_fell_silent_are_named() -> None:
    alive, silent = findings.check_workers([worker(serves=["p", "q"]), worker(alive=False)])

    assert (alive.level, alive.message) == ("ok", "1 alive, for p, q")
    assert silent.level == "warning"
    assert silent.message == "process 7 on host (cpu) was last heard of 100 s ago"


class TestWork:
    def test_none(self) -> None:
        [finding] = findings.check_backlogs([], [], {})

        assert (finding.level, finding.message) == ("ok", "nothing waits")

    def test_is_held_against_bells_and_workers(self) -> None:
        backlogs = [Backlog("p", "new", 3, 1, 2, 0), Backlog("q", None, 1, 0, 0, 0)]

        first, second = findings.check_backlogs(backlogs, [worker(serves=["p", "q"])], {"p": 5})

        assert (first.level, first.message) == ("ok", "p: slices: 3 wait, 2 out, 1 put off; bells: 5; workers: 1")
        assert (second.level, second.message) == ("ok", "q: slices: 1 wait; workers: 1")

    @pytest.mark.parametrize("there", [[], [worker("another")], [worker(alive=False)]])
    def test_that_nobody_serves_is_a_problem(self, there: list[WorkerView]) -> None:
        [finding] = findings.check_backlogs([Backlog("p", "new", 3, 0, 0, 0)], there, {"p": 3})

        assert finding.level == "problem"
        assert finding.advice == "start a worker: batchmill up --pipelines p"

    def test_whose_leases_nobody_reclaims_is_a_warning(self) -> None:
        [finding] = findings.check_backlogs([Backlog("p", "new", 0, 0, 3, 2)], [worker()], {})

        assert (finding.level, finding.message) == ("warning", "p: slices: 3 out, 2 lapsed; workers: 1")

    @pytest.mark.parametrize(
        ("there", "level"),
        [
            ([worker(revision="new")], "warning"),
            ([worker(revision="new"), worker(revision="old")], "ok"),
            ([worker("another", serves=["another", "p"])], "ok"),  # it may turn out to have the revision
        ],
    )
    def test_that_began_with_another_revision(self, there: list[WorkerView], level: str) -> None:
        [finding] = findings.check_backlogs([Backlog("p", "old", 3, 0, 0, 0)], there, {})

        assert finding.level == level


@pytest.mark.parametrize("status", ["validating", "in_progress", "cancelling"])
def test_batches_that_are_stuck(status: str) -> None:
    [finding] = findings.check_stuck_batches(
        [TransitioningBatch("b1", status, 30.0), TransitioningBatch("b2", status, 660.0)]
    )

    assert (finding.level, finding.message) == ("warning", f"b2 is {status} and was last heard of 11 min ago")
    assert "batchmill cancel b2" in str(finding.advice)


def test_duties_that_nobody_does() -> None:
    duties = [
        MaintenanceTaskView("bells", -3.0, 2.0, None, None),
        MaintenanceTaskView("endings", 80.0, 82.0, 7200.0, "closed b1"),
        MaintenanceTaskView("reclaim", 200_000.0, None, None, None),
    ]

    done, late, never = findings.check_maintenance(duties, 90.0)

    assert (done.level, done.message) == ("ok", "bells ran 2 s ago")
    assert (late.level, late.message) == ("ok", "endings ran 82 s ago; 2 h ago: closed b1")
    assert (never.level, never.message) == ("warning", "reclaim never ran; overdue by 2 d")


def standing(name: str, *, at: datetime = SLOT, **run: Any) -> ScheduleStatus:
    """A schedule at one moment, with a last run if there are words on one."""
    definition = ScheduleDefinition.from_fields(name, {"pipeline": "p", "cron": "0 2 * * *", "sql": "tickets"})
    view = ScheduleView(definition, False, None, SLOT - DAY, SLOT, None, SLOT - DAY)
    of_run = dict.fromkeys(RunView.__dataclass_fields__) | {"schedule": name, "slot": SLOT - DAY, "definition": {}}
    return standings.status_for(view, RunView(**{**of_run, **run}) if run else None, at)  # type: ignore[arg-type]


class TestSchedules:
    def test_that_stand_well_are_one_line(self) -> None:
        good = standing("good", state=RunState.COMPLETED)

        assert [finding.level for finding in findings.check_schedules([good], {})] == ["ok"]
        assert list(findings.check_schedules([], {})) == []

    def test_that_nobody_runs_are_a_problem(self) -> None:
        [finding] = findings.check_schedules([standing("left", at=SLOT + DAY)], {})

        assert (finding.level, finding.subject) == ("problem", "schedules")
        assert finding.message == "left is overdue since 2026-03-02 02:00 UTC"
        assert "batchmill foreman" in (finding.advice or "")

    @pytest.mark.parametrize(
        ("run", "words"),
        [
            ({"state": RunState.FAILED, "error_code": "too_many_failures"}, "is failed (too_many_failures)"),
            ({"state": RunState.MISSED}, "is missed"),
            ({"state": RunState.RUNNING, "deadline_at": SLOT - DAY / 2}, "is late"),
        ],
    )
    def test_whose_last_run_needs_a_look(self, run: dict[str, Any], words: str) -> None:
        [finding] = findings.check_schedules([standing("nightly", **run)], {})

        assert (finding.level, finding.message) == ("warning", f"nightly: the slot of 2026-03-01 02:00 UTC {words}")
        assert finding.advice == "see batchmill schedule show nightly"

    def test_whose_webhook_does_not_answer(self) -> None:
        good = standing("good", state=RunState.COMPLETED)
        [finding] = findings.check_schedules([good], {"good": 3})

        assert finding.level == "warning"
        assert finding.message == "good: 3 events of the last week never reached its webhook"
