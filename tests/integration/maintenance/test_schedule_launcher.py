"""The duty of schedules: when it starts a tick, with what, and when it leaves that."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.pipelines.catalogue import Catalogue
from models.processes.command_launcher import EXIT_NOTHING_DUE, MAX_PAUSE_SECONDS
from producer.schedules import registry
from tests.factories.schedules import CREATED_AT, ScheduleHarness, utc
from tests.servers import WAIT_TIMEOUT_SECONDS
from worker.maintenance.schedule_launcher import ScheduleLauncher

SCHEDULED_AT = utc("03-02 02:00")
NOON = "2026-03-02T12:00Z"  # by which the night's run is due


class Process:
    """One that was started, and runs until it is told its end."""

    stdin = None

    def __init__(self, command: list[str], *, env: dict[str, str], **_: Any) -> None:
        self.command = command
        self.env = env
        self.status: int | None = None

    def poll(self) -> int | None:
        """How it ended."""
        return self.status


class Office:
    """The duty, by a clock of the test's."""

    def __init__(self, harness: ScheduleHarness, clock: str | None = NOON) -> None:
        self.started: list[Process] = []
        self.now = 0.0
        self.settings = harness.settings.model_copy(update={"simulated_clock": clock})
        self.duty = ScheduleLauncher(harness.database, self.settings, lambda: self.now)

    def started_after(self, seconds: float = 0.0) -> int:
        """How many there were in all, once the duty had another turn then."""
        self.now += seconds
        assert self.duty.run_once() in ("", *(f"a tick ended with {each.status}" for each in self.started))
        return len(self.started)


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(database_url, tmp_path)
    created.tickets.insert_ticket(utc("03-01 21:00"))
    yield created
    created.close()


@pytest.fixture
def office(harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch) -> Office:
    created = Office(harness)

    def start(command: list[str], **how: Any) -> Process:
        created.started.append(Process(command, **how))
        return created.started[-1]

    monkeypatch.setattr("models.processes.command_launcher.subprocess.Popen", start)
    return created


def test_nothing_is_started_while_nothing_is_due(harness: ScheduleHarness, office: Office) -> None:
    assert office.started_after() == 0
    harness.create_schedule(now=utc("03-02 12:00"))
    assert office.started_after() == 0
    harness.create_schedule("suspended")
    registry.suspend(harness.database, "suspended", CREATED_AT)
    assert office.started_after() == 0


def test_one_at_a_time_until_all_is_done(harness: ScheduleHarness, office: Office) -> None:
    harness.create_schedule()
    assert [office.started_after(), office.started_after(5)] == [1, 1]
    harness.tick(utc("03-02 12:00"))
    office.started[0].status = 0
    assert office.started_after() == 1, "a worker is at it"
    harness.answer_jobs()
    assert office.started_after() == 2
    harness.tick(utc("03-02 12:00"))
    office.started[1].status = 0
    assert office.started_after() == 2


def test_a_run_that_is_held_is_left_alone(harness: ScheduleHarness, office: Office) -> None:
    harness.create_schedule()
    harness.tick(SCHEDULED_AT)
    harness.answer_jobs()
    harness.execute("UPDATE runs SET holder_id = 'somebody', held_until = '2999-01-01 00:00:00+00:00'")
    assert office.started_after() == 0
    harness.execute("UPDATE runs SET held_until = '2026-01-01 00:00:00+00:00'")
    assert office.started_after() == 1


def test_a_follower_that_is_planned_and_has_no_batch_yet_starts_a_tick(
    harness: ScheduleHarness, office: Office
) -> None:
    harness.create_schedule()
    harness.create_schedule("second", after="nightly")
    harness.tick(SCHEDULED_AT)
    harness.answer_jobs()
    catalogue, harness.catalogue = harness.catalogue, Catalogue({})
    harness.tick(utc("03-02 11:58"))
    harness.catalogue = catalogue
    assert [run.batch_id for run in harness.runs("second")] == [None]

    assert office.started_after() == 1
    harness.tick(utc("03-02 12:00"))
    office.started[0].status = 0
    assert office.started_after() == 1, "it is read, and a worker is at it"


def test_it_is_told_the_rehearsal_s_time_and_where_things_are(harness: ScheduleHarness, office: Office) -> None:
    harness.create_schedule()
    office.started_after()
    [tick] = office.started

    assert tick.command[3:] == ["batchmill", "schedule", "tick", "--exit-with-parent", "--now", tick.command[-1]]
    assert tick.command[-1].startswith("2026-03-02T12:00:")
    assert tick.env["BATCHMILL_DATABASE_URL"] == harness.settings.database_url
    assert tick.env["BATCHMILL_REDIS_URL"] == harness.settings.redis_url
    assert tick.env["BATCHMILL_HOME"] == str(harness.settings.home_path)


def test_without_a_rehearsal_it_looks_at_the_database_s_clock_itself(harness: ScheduleHarness, office: Office) -> None:
    harness.create_schedule()
    ScheduleLauncher(harness.database, harness.settings).run_once()

    assert "--now" not in office.started[0].command


def test_in_the_pause_after_a_tick_another_process_may_have_the_work(harness: ScheduleHarness, office: Office) -> None:
    harness.create_schedule()
    assert office.duty.can_run()
    office.started_after()
    assert office.duty.can_run(), "a tick runs"

    office.started[0].status = 1
    assert not office.duty.can_run()
    assert office.duty.is_unfinished(), "its failure is still to be told"

    office.now += MAX_PAUSE_SECONDS
    assert office.duty.can_run()
    assert office.duty.run_once() == "a tick ended with 1"


@pytest.mark.parametrize("status", [EXIT_NOTHING_DUE, 1, -9])
def test_one_that_comes_to_nothing_makes_it_wait_longer_each_time(
    harness: ScheduleHarness, office: Office, status: int
) -> None:
    harness.create_schedule(catchup="all")
    count = office.started_after()
    gaps = []
    for _ in range(5):
        office.started[-1].status = status
        gaps.append(0)
        while office.started_after(1.0 if gaps[-1] else 0.0) == count:
            gaps[-1] += 1
        count += 1
    assert gaps == [2, 4, 8, MAX_PAUSE_SECONDS, MAX_PAUSE_SECONDS]

    harness.tick(SCHEDULED_AT)  # somebody else could
    harness.answer_jobs()
    harness.tick(SCHEDULED_AT)
    office.started[-1].status = status
    assert office.started_after() == office.started_after(MAX_PAUSE_SECONDS) == count
    harness.create_schedule("another")
    assert office.started_after() == count + 1
    office.started[-1].status = status
    assert [office.started_after(), office.started_after(2)] == [count + 1, count + 2], "the first wait is short again"


def test_a_tick_started_for_it_says_whether_there_was_something(harness: ScheduleHarness) -> None:
    harness.create_schedule()

    def tick() -> int:
        with harness.start_tick_process(
            SCHEDULED_AT, options=("--exit-with-parent",), stdin=subprocess.PIPE
        ) as process:
            return process.wait(WAIT_TIMEOUT_SECONDS)

    assert [tick(), tick()] == [0, EXIT_NOTHING_DUE]
