"""Ticks whose database goes away or is locked on the way: they end or wait, and the next one makes the night whole."""

import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from models import schema
from models.errors import Unreachable
from tests.factories.schedules import ScheduleHarness, utc
from tests.servers import WAIT_TIMEOUT_SECONDS, Postgres
from worker.maintenance.schedule_launcher import ScheduleLauncher

NIGHT = utc("03-02 02:00")


@pytest.mark.parametrize("point", ["before_read_source", "before_finish_run"])
def test_a_postgresql_that_stops_ends_the_tick_and_not_the_night(
    tmp_path: Path, own_postgres: Postgres, point: str
) -> None:
    url = own_postgres.create_database("harness")
    schema.upgrade(url)
    harness = ScheduleHarness(url, tmp_path)
    harness.create_schedule(into="labels")
    harness.tickets.insert_ticket(utc("03-01 21:00"))
    if point == "before_finish_run":
        harness.tick(NIGHT)
        harness.answer_jobs()
    duty = ScheduleLauncher(
        harness.database, harness.settings.model_copy(update={"simulated_clock": "2026-03-01T12:00Z"})
    )
    with harness.pause_tick(NIGHT, point) as tick:
        own_postgres.stop("immediate")
        with pytest.raises(Unreachable):
            duty.run_once()
        tick.send_signal(signal.SIGUSR1)
        assert tick.wait(WAIT_TIMEOUT_SECONDS) == Unreachable.exit_code
    own_postgres.start()

    assert duty.run_once() == ""
    for minute in range(3):
        harness.tick(utc(f"03-02 02:0{minute + 1}"))
        harness.answer_jobs()
    assert harness.run_states() == ["completed"]
    assert [row.id for row in harness.query("SELECT id FROM labels")] == [1]
    harness.assert_consistent()
    harness.close()


def test_a_sqlite_that_somebody_locks_is_waited_for(tmp_path: Path, sqlite_url: str) -> None:
    harness = ScheduleHarness(sqlite_url, tmp_path)
    harness.create_schedule()
    harness.tickets.insert_ticket(utc("03-01 21:00"))
    with harness.pause_tick(NIGHT, "before_read_source") as tick:
        with closing(sqlite3.connect(make_url(sqlite_url).database or "", isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            tick.send_signal(signal.SIGUSR1)
            with pytest.raises(subprocess.TimeoutExpired):
                tick.wait(3)  # the fault itself: the lock is held so long
            other.execute("ROLLBACK")
        assert tick.wait(WAIT_TIMEOUT_SECONDS) == 0

    assert harness.query("SELECT error_code FROM runs") == [(None,)]
    harness.tick(utc("03-02 02:01"))  # goes on if the machine stood still for so long that the first one lost its hold
    assert harness.run_states() == ["running"]
    harness.close()
