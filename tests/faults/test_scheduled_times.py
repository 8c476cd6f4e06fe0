"""Dozens of runs, and two processes that are killed over and over, at every step: exactly one run for each time."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import bindparam, text

from models.dialects.columns import UtcDateTime
from producer.schedules import registry
from tests.factories import tick_processes
from tests.factories.schedules import ScheduleHarness

RUNS = 48
TICKETS = 6
START = datetime(2026, 1, 1, tzinfo=UTC)
SPEED = 600  # a minute passes in a tenth of a second
STEPS = (
    "during_planning",
    "after_planning",
    "before_read_source",
    "after_read_source",
    "before_finish_run",
    "before_commit_run",
    "after_commit_run",
)
LIFE_SECONDS = (0.3, 1.2)  # of a ticker that no failpoint kills, at first
LONGER = 1.25  # after each death, so that a loaded machine gets somewhere as well
PATIENCE_SECONDS = 500.0


class Ticker:
    """A process that ticks; dies by a failpoint, or when it is killed."""

    def __init__(self, harness: ScheduleHarness, simulated_clock: str, source: random.Random) -> None:
        self._harness = harness
        self._settings = harness.settings.model_copy(update={"simulated_clock": simulated_clock})
        self._source = source
        self.deaths = 0
        self._start()

    def look(self) -> None:
        """Kill it when its time has come; start it again where it is dead."""
        if self._process.is_alive() and time.monotonic() > self._until:
            self._process.kill()
            self._process.join()
        if not self._process.is_alive():
            assert self._process.exitcode == -signal.SIGKILL, self._process.exitcode
            self.deaths += 1
            self._start()

    def end(self) -> None:
        """For good."""
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        point = f"{self._source.choice(STEPS)}:kill@{self._source.randint(1, 20)}"
        self._process = tick_processes.start_ticker(self._settings, self._harness.catalogue, point)
        self._until = time.monotonic() + self._source.uniform(*LIFE_SECONDS) * LONGER**self.deaths


@contextmanager
def tickers(harness: ScheduleHarness, simulated_clock: str, seed: int) -> Iterator[list[Ticker]]:
    """Two of them."""
    source = random.Random(seed)
    made = [Ticker(harness, simulated_clock, source) for _ in range(2)]
    try:
        yield made
    finally:
        for ticker in made:
            ticker.end()


def test_every_scheduled_time_has_one_run(database_url: str, tmp_path: Path) -> None:
    harness = ScheduleHarness(database_url, tmp_path)
    harness.create_schedule(
        cron="* * * * *", catchup="all", catchup_window="3650d", overlap="queue", now=START, into="labels"
    )
    for minute in range(0, RUNS, RUNS // TICKETS):
        harness.tickets.insert_ticket(START + timedelta(minutes=minute, seconds=30))
    last = START + timedelta(minutes=RUNS)
    simulated_clock = f"{START.isoformat()}@{datetime.now(UTC).isoformat()}*{SPEED}"
    deadline, suspended = time.monotonic() + PATIENCE_SECONDS, False

    with tickers(harness, simulated_clock, seed=7) as two:
        while _left(harness, last):
            assert time.monotonic() < deadline, f"{_left(harness, last)} runs are left"
            for ticker in two:
                ticker.look()
            harness.answer_jobs()
            if not suspended and registry.get(harness.database, "nightly").evaluated_until >= last:
                suspended = True
                registry.suspend(harness.database, "nightly", last)
            time.sleep(0.1)

    scheduled_times = [run.scheduled_at for run in harness.runs() if run.scheduled_at <= last]
    assert scheduled_times == [START + timedelta(minutes=minute) for minute in range(1, RUNS + 1)]
    assert sum(ticker.deaths for ticker in two) >= 5
    [counted] = harness.query(
        """SELECT count(*) AS runs, count(DISTINCT r.batch_id) AS batches, count(b.id) AS there
        FROM runs r LEFT JOIN batches b ON b.id = r.batch_id WHERE r.state = 'completed'"""
    )
    assert counted.runs == counted.batches == counted.there >= RUNS
    taken = harness.query("SELECT custom_id, count(*) AS times FROM jobs GROUP BY custom_id")
    assert sorted((row.custom_id, row.times) for row in taken) == sorted((str(n), 1) for n in range(1, TICKETS + 1))
    assert len(harness.query("SELECT id FROM labels")) == TICKETS
    harness.close()


def _left(harness: ScheduleHarness, last: datetime) -> int:
    query = text("SELECT count(*) FROM runs WHERE state = 'completed' AND scheduled_at <= :last")
    with harness.database.read() as connection:
        done: int = connection.scalar(query.bindparams(bindparam("last", last, UtcDateTime()))) or 0
    return RUNS - done
