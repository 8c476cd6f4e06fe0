"""Ticks that freeze, are taken for dead, and wake up when another one has gone on: they lose, whatever they were at.

What the hold's time or the server's patience with a silent session would bring half a minute later is brought at once.
"""

import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from models.states import RunState
from tests.deployment import WAIT_TIMEOUT_SECONDS
from tests.factories.schedules import ScheduleHarness, utc

NIGHT, NEXT = utc("03-02 02:00"), utc("03-03 02:00")
ENDED_WELL = (0, 5)  # 5: frozen for longer than PostgreSQL keeps a silent transaction, as on a slow machine
HELD = "SELECT holder_id FROM runs WHERE holder_id IS NOT NULL"


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    made = ScheduleHarness(database_url, tmp_path)
    for _ in range(3):
        made.tickets.insert_ticket(utc("03-01 21:00"))
    yield made
    made.close()


def freeze(harness: ScheduleHarness, zombie: "subprocess.Popen[bytes]") -> None:
    """Stop it where it is, but not with the one write lock of a SQLite file in its hands, which it would keep."""
    url = make_url(harness.settings.database_url or "")
    files = [harness.tickets.path, *([url.database] if url.get_backend_name() == "sqlite" else [])]
    while True:
        zombie.send_signal(signal.SIGSTOP)
        try:
            for file in files:
                with closing(sqlite3.connect(str(file), isolation_level=None, timeout=0.1)) as connection:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("ROLLBACK")
            return
        except sqlite3.OperationalError:
            zombie.send_signal(signal.SIGCONT)


def wake(zombie: "subprocess.Popen[bytes]") -> None:
    """Let it run on, also from its failpoint."""
    zombie.send_signal(signal.SIGCONT)
    zombie.send_signal(signal.SIGUSR1)


@contextmanager
def frozen(harness: ScheduleHarness, point: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A tick that froze at this point and holds a run, if only because nobody knows better; it wakes up afterwards."""
    zombie = harness.pause_tick(NIGHT, point)
    try:
        freeze(harness, zombie)
        [before] = harness.query(HELD)
        harness.execute("UPDATE runs SET held_until = '2026-01-01 00:00:00+00:00' WHERE holder_id IS NOT NULL")
        yield zombie
        assert harness.query(HELD) != [before], "somebody has taken over"
        wake(zombie)
        assert zombie.wait(WAIT_TIMEOUT_SECONDS) in ENDED_WELL
    finally:
        zombie.kill()
        zombie.wait()


class TestReading:
    def test_what_was_read_since_stays(self, harness: ScheduleHarness) -> None:
        harness.create_schedule()
        with frozen(harness, "before_read_source"):
            harness.tickets.execute("DELETE FROM tickets WHERE id = 2")
            harness.tick(NIGHT)
            harness.tickets.execute("DELETE FROM tickets WHERE id = 3")
        harness.answer_jobs()
        harness.tick(NIGHT)

        [run] = harness.runs()
        assert run.state is RunState.COMPLETED
        assert harness.input_ids(run) == ["1", "3"]
        harness.assert_consistent()

    def test_who_reads_now_is_not_disturbed(self, harness: ScheduleHarness) -> None:
        harness.create_schedule()
        with frozen(harness, "before_read_source") as zombie, harness.pause_tick(NIGHT, "before_read_source") as other:
            wake(zombie)
            assert zombie.wait(WAIT_TIMEOUT_SECONDS) in ENDED_WELL
            assert harness.runs()[0].state is RunState.WAITING
            other.send_signal(signal.SIGUSR1)
            assert other.wait(WAIT_TIMEOUT_SECONDS) == 0
        harness.answer_jobs()
        harness.tick(NIGHT)

        [run] = harness.runs()
        assert run.state is RunState.COMPLETED
        assert harness.input_ids(run) == ["1", "2", "3"]
        harness.assert_consistent()


class TestFinishing:
    def test_the_next_night_s_table_stays(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(into="labels")
        harness.tick(NIGHT)
        harness.answer_jobs({"label": "NEGATIVE", "score": 0.9})
        with frozen(harness, "before_finish_run"):
            harness.tick(NIGHT)
            first = harness.runs()[0]
            harness.tickets.execute("UPDATE tickets SET created_at = '2026-03-02 21:00:00'")
            harness.run_schedule(NEXT, {"label": "POSITIVE", "score": 0.8})

        assert harness.run_states() == ["completed", "completed"]
        assert harness.runs()[0] == first
        assert {row.label for row in harness.query("SELECT label FROM labels")} == {"POSITIVE"}
        harness.assert_consistent()

    def test_a_row_that_its_owner_deleted_since_stays_away(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(into="labels", into_source="tickets")
        harness.tick(NIGHT)
        harness.answer_jobs()
        with frozen(harness, "before_finish_run"):
            harness.tick(NIGHT)
            harness.tickets.execute("DELETE FROM labels WHERE id = '2'")

        assert harness.run_states() == ["completed"]
        assert harness.tickets.query("SELECT id FROM labels ORDER BY id") == [(1,), (3,)]
