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
from tests.servers import RedisDatabase

ZONES = {"berlin": "Europe/Berlin", "york": "America/New_York", "howe": "Australia/Lord_Howe"}
TIMES = {"night": "30 2 * * *", "hour": "0 * * * *", "half": "*/30 1-3 * * *"}
SPAN = timedelta(hours=26)
SPEED = 14_400  # four hours a second
LIFE_SECONDS = (1.5, 4.0)  # of a process or its tick, at first
LONGER = 1.25  # after each death, so that a loaded machine gets somewhere as well
PATIENCE_SECONDS = 220.0

# The evening before, in UTC, whose clocks are changed, and by hand what comes of it: the night's one time, those of
# every half hour from one to four (with their offsets), and how many full hours there are.
NIGHTS = {
    "forward in New York": ("03-07 22:00", "york", "03:00-0400", "01:00-0500 01:30-0500 03:00-0400 03:30-0400", 26),
    "back on Lord Howe": (
        "04-04 08:00",
        "howe",
        "02:30+1030",
        "01:00+1100 01:30+1100 01:30+1030 02:00+1030 02:30+1030 03:00+1030 03:30+1030",
        25,
    ),
    "forward on Lord Howe": (
        "10-03 08:00",
        "howe",
        "02:30+1100",
        "01:00+1030 01:30+1030 02:30+1100 03:00+1100 03:30+1100",
        26,
    ),
    "back in Berlin": (
        "10-24 12:00",
        "berlin",
        "02:30+0200",
        "01:00+0200 01:30+0200 02:00+0200 02:30+0200 02:00+0100 02:30+0100 03:00+0100 03:30+0100",
        26,
    ),
}


class MaintainProcess:
    """A process that looks after the schedules; it, or the tick that it has at work, is killed now and then."""

    def __init__(self, nights: ScheduleHarness, clock: str, source: random.Random) -> None:
        self._environment = nights.environment(SIMULATED_CLOCK=clock, SCHEDULE_CHECK_SECONDS="0.2")
        self._source = source
        self.deaths = 0
        self._start()

    def look(self) -> None:
        """Kill one of the two when its time has come; start it again where it is dead."""
        if time.monotonic() > self._until:
            ticks = psutil.Process(self._process.pid).children()
            victim = self._source.choice([psutil.Process(self._process.pid), *ticks])
            with suppress(psutil.NoSuchProcess):
                victim.kill()
            self.deaths += 1
            self._live()
        if self._process.poll() is not None:
            self._start()

    def end(self) -> None:
        """For good."""
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        self._process = start_maintain(self._environment)
        self._live()

    def _live(self) -> None:
        self._until = time.monotonic() + self._source.uniform(*LIFE_SECONDS) * LONGER**self.deaths


def start_maintain(environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", "batchmill", "maintain"]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def maintain_processes(nights: ScheduleHarness, clock: str) -> Iterator[list[MaintainProcess]]:
    source = random.Random(clock[:10])
    made = [MaintainProcess(nights, clock, source) for _ in range(2)]
    try:
        yield made
    finally:
        for process in made:
            process.end()


@pytest.mark.parametrize("night", NIGHTS)
def test_every_scheduled_time_has_one_run_though_clocks_are_changed(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, valkey_server: RedisDatabase, night: str
) -> None:
    evening, zone, *by_hand = NIGHTS[night]
    kind = "sqlite" if list(NIGHTS).index(night) in (0, 3) else "postgresql"  # each goes forward and back
    start = utc(evening)
    end, nights = start + SPAN, ScheduleHarness(request.getfixturevalue(f"{kind}_url"), tmp_path, redis_url=redis_url)
    wanted = set(made(nights, start, end))
    for hour in range(0, 24, 8):
        nights.tickets.insert_ticket(start + timedelta(hours=hour, minutes=10))
    deadline = time.monotonic() + PATIENCE_SECONDS

    with maintain_processes(nights, f"{start.isoformat()}@{datetime.now(UTC).isoformat()}*{SPEED}") as two:
        while left := wanted - completed(nights):
            assert time.monotonic() < deadline, f"left are {len(left)}, such as {min(left)}"
            for process in two:
                process.look()
            valkey_server.flush()
            nights.answer_jobs()
            let_rest(nights, end)
            time.sleep(0.2)
        wait_for(
            lambda: not nights.query("SELECT scheduled_at FROM runs WHERE next_check_at IS NOT NULL"), "the last runs"
        )

    assert sum(process.deaths for process in two) >= 2
    check(nights, wanted, end)
    night_time, half_hours, hours = by_hand
    assert told(nights, f"{zone}-night", end) == [night_time]
    assert told(nights, f"{zone}-half", end) == half_hours.split()
    assert len(told(nights, f"{zone}-hour", end)) == hours
    nights.close()


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_maintain_process_that_ends_leaves_no_tick_behind(sqlite_url: str, tmp_path: Path, how: str) -> None:
    nights = ScheduleHarness(sqlite_url, tmp_path)
    nights.create_schedule()
    nights.tickets.insert_ticket(utc("03-01 21:00"))
    environment = nights.environment(
        SIMULATED_CLOCK="2026-03-02T02:00Z",
        SCHEDULE_CHECK_SECONDS="0.1",
        FAILPOINT="before_read_source:sleep",
        DATABASE_URL=sqlite_url,
    )
    with start_maintain(environment) as process:
        wait_for(lambda: nights.query("SELECT holder_id FROM runs WHERE holder_id IS NOT NULL"), "its tick to read")
        [tick] = psutil.Process(process.pid).children()
        getattr(process, how)()
        assert process.wait(30) == (0 if how == "terminate" else -9)

    assert psutil.wait_procs([tick], timeout=30)[1] == []
    nights.tick(utc("03-02 02:30"))  # at once, since the one who held it is known to be dead
    assert nights.run_states() == ["running"]
    nights.close()


def made(nights: ScheduleHarness, start: datetime, end: datetime) -> Iterator[tuple[str, datetime]]:
    """Schedules of all times in all zones; gives their times, as the schedule has them."""
    for zone, tz in ZONES.items():
        for what, cron in TIMES.items():
            name = f"{zone}-{what}"
            nights.create_schedule(name, start, cron=cron, tz=tz, catchup="all", catchup_window="30d", overlap="queue")
            for scheduled_at in Cron(cron, tz).times_between(start, end):
                yield name, scheduled_at


def completed(nights: ScheduleHarness) -> set[tuple[str, datetime]]:
    names = (f"{zone}-{what}" for zone in ZONES for what in TIMES)
    return {(run.schedule, run.scheduled_at) for name in names for run in nights.runs(name) if run.state == "completed"}


def let_rest(nights: ScheduleHarness, end: datetime) -> None:
    """Suspend what is decided up to the end, so that the clock may run on."""
    for view in registry.list_schedules(nights.database):
        if view.suspended_at is None and view.next_run_at is not None and view.next_run_at > end:
            registry.suspend(nights.database, view.name, end)


def check(nights: ScheduleHarness, wanted: set[tuple[str, datetime]], end: datetime) -> None:
    runs = nights.query("SELECT schedule, batch_id, state FROM runs")
    batches = {row.id for row in nights.query("SELECT id FROM batches")}
    assert {row.state for row in runs} == {"completed"}
    assert {row.batch_id for row in runs} == batches
    assert len(runs) == len(batches)
    assert {run for run in completed(nights) if run[1] <= end} == wanted
    taken = nights.query(
        """SELECT r.schedule, j.custom_id, count(*) AS times FROM runs r JOIN jobs j ON j.batch_id = r.batch_id
        GROUP BY r.schedule, j.custom_id"""
    )
    assert {row.times for row in taken} == {1}
    assert len([row for row in taken if row.schedule.endswith("-hour")]) == 9
    nights.assert_consistent()


def told(nights: ScheduleHarness, name: str, end: datetime) -> list[str]:
    """A schedule's times of that day, as the zone's clocks told them."""
    zone = ZoneInfo(ZONES[name.split("-")[0]])
    return [f"{run.scheduled_at.astimezone(zone):%H:%M%z}" for run in nights.runs(name) if run.scheduled_at <= end]
