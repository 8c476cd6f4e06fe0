"""Two processes of `maintain` on nights when clocks change, while they and their ticks are killed.

Each scheduled time has exactly one run, whatever its zone did that night.
"""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import psutil
import pytest

from producer.schedules import registry
from producer.schedules.timing.cron import Cron
from tests.deployment import wait_for
from tests.factories.schedules import ScheduleHarness, utc
from tests.servers import WAIT_TIMEOUT_SECONDS, RedisDatabase

CRONS = {"night": "30 2 * * *", "hour": "0 * * * *", "half": "*/30 1-3 * * *"}
SPAN = timedelta(hours=26)
SPEED = 14_400  # four hours a second
RUNS_TO_KILL = (3, 8)  # that complete from one kill to the next, so that a loaded machine makes progress as well
MAX_SECONDS = 500.0

# The database; the evening before, in UTC; the expected times of "night" and "half", with their offsets; the number of
# "hour".
NIGHTS = {
    "forward in New York": (
        "sqlite",
        "03-07 22:00",
        "America/New_York",
        "03:00-0400",
        "01:00-0500 01:30-0500 03:00-0400 03:30-0400",
        26,
    ),
    "back on Lord Howe": (
        "postgresql",
        "04-04 08:00",
        "Australia/Lord_Howe",
        "02:30+1030",
        "01:00+1100 01:30+1100 01:30+1030 02:00+1030 02:30+1030 03:00+1030 03:30+1030",
        25,
    ),
}


class MaintainProcess:
    """A `batchmill maintain` that is killed now and then, or its running tick, and is started again."""

    def __init__(self, harness: ScheduleHarness, clock: str, rng: random.Random) -> None:
        self._environment = harness.environment(SIMULATED_CLOCK=clock, SCHEDULE_CHECK_SECONDS="0.2")
        self._rng = rng
        self._process = start_maintain(self._environment)

    def kill(self) -> None:
        """Kill the process or its running tick."""
        with suppress(psutil.NoSuchProcess):
            ticks = psutil.Process(self._process.pid).children()
            self._rng.choice([psutil.Process(self._process.pid), *ticks]).kill()

    def restart_if_ended(self) -> None:
        if self._process.poll() is not None:
            self._process = start_maintain(self._environment)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def start_maintain(environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", "batchmill", "maintain"]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def maintain_processes(harness: ScheduleHarness, clock: str, rng: random.Random) -> Iterator[list[MaintainProcess]]:
    processes = [MaintainProcess(harness, clock, rng) for _ in range(2)]
    try:
        yield processes
    finally:
        for process in processes:
            process.close()


@pytest.mark.parametrize("night", NIGHTS)
def test_every_scheduled_time_has_one_run_though_clocks_are_changed(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, valkey_server: RedisDatabase, night: str
) -> None:
    kind, evening, zone, night_time, half_hours, hours = NIGHTS[night]
    start = utc(evening)
    end, harness = start + SPAN, ScheduleHarness(request.getfixturevalue(f"{kind}_url"), tmp_path, redis_url=redis_url)
    expected = set(create_schedules(harness, zone, start, end))
    for hour in range(0, 24, 8):
        harness.tickets.insert_ticket(start + timedelta(hours=hour, minutes=10))
    deadline, clock = time.monotonic() + MAX_SECONDS, f"{start.isoformat()}@{datetime.now(UTC).isoformat()}*{SPEED}"
    rng, kills, next_kill = random.Random(night), 0, 1

    with maintain_processes(harness, clock, rng) as processes:
        while missing := expected - completed_runs(harness):
            assert time.monotonic() < deadline, f"{len(missing)} are missing, such as {min(missing)}"
            if len(expected) - len(missing) >= next_kill:
                rng.choice(processes).kill()
                kills, next_kill = kills + 1, len(expected) - len(missing) + rng.randint(*RUNS_TO_KILL)
            for process in processes:
                process.restart_if_ended()
            valkey_server.flush()
            harness.answer_jobs()
            suspend_schedules_past(harness, end)
            time.sleep(0.2)
        wait_for(
            lambda: not harness.query("SELECT scheduled_at FROM runs WHERE next_check_at IS NOT NULL"), "the last runs"
        )

    assert kills >= 1  # runs with tickets wait for their answers, so they do not complete all at once
    check_runs(harness, expected, end)
    assert local_times(harness, "night", zone, end) == [night_time]
    assert local_times(harness, "half", zone, end) == half_hours.split()
    assert len(local_times(harness, "hour", zone, end)) == hours
    harness.close()


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_maintain_process_that_ends_leaves_no_tick_behind(sqlite_url: str, tmp_path: Path, how: str) -> None:
    harness = ScheduleHarness(sqlite_url, tmp_path)
    harness.create_schedule()
    harness.tickets.insert_ticket(utc("03-01 21:00"))
    environment = harness.environment(
        SIMULATED_CLOCK="2026-03-02T02:00Z",
        SCHEDULE_CHECK_SECONDS="0.1",
        FAILPOINT="before_read_source:sleep",
        DATABASE_URL=sqlite_url,
    )
    with start_maintain(environment) as process:
        wait_for(lambda: harness.query("SELECT holder_id FROM runs WHERE holder_id IS NOT NULL"), "its tick to read")
        [tick] = psutil.Process(process.pid).children()
        getattr(process, how)()
        assert process.wait(WAIT_TIMEOUT_SECONDS) == (0 if how == "terminate" else -9)

    assert psutil.wait_procs([tick], timeout=WAIT_TIMEOUT_SECONDS)[1] == []
    harness.tick(utc("03-02 02:30"))  # at once, since its holder is known to be gone
    assert harness.run_states() == ["running"]
    harness.close()


def create_schedules(
    harness: ScheduleHarness, zone: str, start: datetime, end: datetime
) -> Iterator[tuple[str, datetime]]:
    """Create a schedule for each cron expression in the zone; yields the scheduled times of each."""
    for name, cron in CRONS.items():
        harness.create_schedule(name, start, cron=cron, tz=zone, catchup="all", catchup_window="30d", overlap="queue")
        for scheduled_at in Cron(cron, zone).times_between(start, end):
            yield name, scheduled_at


def completed_runs(harness: ScheduleHarness) -> set[tuple[str, datetime]]:
    return {
        (run.schedule, run.scheduled_at) for name in CRONS for run in harness.runs(name) if run.state == "completed"
    }


def suspend_schedules_past(harness: ScheduleHarness, end: datetime) -> None:
    """Suspend the schedules that are evaluated up to the end, while the clock runs on."""
    for view in registry.list_schedules(harness.database):
        if view.suspended_at is None and view.next_run_at is not None and view.next_run_at > end:
            registry.suspend(harness.database, view.name, end)


def check_runs(harness: ScheduleHarness, expected: set[tuple[str, datetime]], end: datetime) -> None:
    runs = harness.query("SELECT schedule, batch_id, state FROM runs")
    batches = {row.id for row in harness.query("SELECT id FROM batches")}
    assert {row.state for row in runs} == {"completed"}
    assert {row.batch_id for row in runs} == batches
    assert len(runs) == len(batches)
    assert {run for run in completed_runs(harness) if run[1] <= end} == expected
    tickets = harness.query(
        """SELECT r.schedule, j.custom_id, count(*) AS times FROM runs r JOIN jobs j ON j.batch_id = r.batch_id
        GROUP BY r.schedule, j.custom_id"""
    )
    assert {row.times for row in tickets} == {1}
    assert len([row for row in tickets if row.schedule == "hour"]) == 3
    harness.assert_consistent()


def local_times(harness: ScheduleHarness, name: str, zone: str, end: datetime) -> list[str]:
    """Return a schedule's times of that day on the zone's clocks."""
    return [
        f"{run.scheduled_at.astimezone(ZoneInfo(zone)):%H:%M%z}"
        for run in harness.runs(name)
        if run.scheduled_at <= end
    ]
