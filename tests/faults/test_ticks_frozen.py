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
from tests.deployment import wait_for
from tests.factories.schedules import ScheduleHarness, utc

NIGHT, NEXT = utc("03-02 02:00"), utc("03-03 02:00")
HELD = "SELECT holder_id FROM runs WHERE holder_id IS NOT NULL"


@pytest.fixture
def nights(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    made = ScheduleHarness(database_url, tmp_path)
    for _ in range(3):
        made.tickets.insert_ticket(utc("03-01 21:00"))
    yield made
    made.close()


def freeze(nights: ScheduleHarness, zombie: "subprocess.Popen[bytes]") -> None:
    """Stop it where it is, but not with the one write lock of a SQLite file in its hands, which it would keep."""
    ours = make_url(nights.settings.database_url or "")
    files = [nights.tickets.path, *([ours.database] if ours.get_backend_name() == "sqlite" else [])]
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


@contextmanager
def frozen(nights: ScheduleHarness, point: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A tick that froze at this point and holds a run, if only because nobody knows better; it wakes up afterwards."""
    zombie = nights.start_tick_process(NIGHT, f"{point}:sleep:2")
    try:
        wait_for(lambda: nights.query(HELD), f"the tick to be at {point}")
        freeze(nights, zombie)
        [before] = nights.query(HELD)
        nights.execute("UPDATE runs SET held_until = '2026-01-01 00:00:00+00:00' WHERE holder_id IS NOT NULL")
        yield zombie
        assert nights.query(HELD) != [before], "somebody has taken over"
        zombie.send_signal(signal.SIGCONT)
        assert zombie.wait(60) == 0
    finally:
        zombie.kill()
        zombie.wait()


class TestReading:
    def test_what_was_read_since_stays(self, nights: ScheduleHarness) -> None:
        nights.create_schedule()
        with frozen(nights, "before_read_source"):
            nights.tickets.execute("DELETE FROM tickets WHERE id = 2")
            nights.tick(NIGHT)
            nights.tickets.execute("DELETE FROM tickets WHERE id = 3")
        nights.answer_jobs()
        nights.tick(NIGHT)

        [run] = nights.runs()
        assert run.state is RunState.COMPLETED
        assert nights.input_ids(run) == ["1", "3"]
        nights.assert_consistent()

    def test_who_reads_now_is_not_disturbed(self, nights: ScheduleHarness) -> None:
        nights.create_schedule()
        with frozen(nights, "before_read_source") as zombie:
            other = nights.start_tick_process(NIGHT, "before_read_source:sleep:2")
            [before] = nights.query("SELECT holder_id FROM batches")
            wait_for(lambda: nights.query("SELECT holder_id FROM batches") != [before], "the other one to begin")
            zombie.send_signal(signal.SIGCONT)
            assert zombie.wait(60) == 0
            assert nights.runs()[0].state is RunState.WAITING
            assert other.wait(60) == 0
        nights.answer_jobs()
        nights.tick(NIGHT)

        [run] = nights.runs()
        assert run.state is RunState.COMPLETED
        assert nights.input_ids(run) == ["1", "2", "3"]
        nights.assert_consistent()


class TestFinishing:
    def test_the_next_night_s_table_stays(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(into="labels")
        nights.tick(NIGHT)
        nights.answer_jobs({"label": "NEGATIVE", "score": 0.9})
        with frozen(nights, "before_finish_run"):
            nights.tick(NIGHT)
            first = nights.runs()[0]
            nights.tickets.execute("UPDATE tickets SET created_at = '2026-03-02 21:00:00'")
            nights.run_schedule(NEXT, {"label": "POSITIVE", "score": 0.8})

        assert nights.run_states() == ["completed", "completed"]
        assert nights.runs()[0] == first
        assert {row.label for row in nights.query("SELECT label FROM labels")} == {"POSITIVE"}
        nights.assert_consistent()

    def test_a_row_that_its_owner_deleted_since_stays_away(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(into="labels", into_source="tickets")
        nights.tick(NIGHT)
        nights.answer_jobs()
        with frozen(nights, "before_finish_run"):
            nights.tick(NIGHT)
            nights.tickets.execute("DELETE FROM labels WHERE id = '2'")

        assert nights.run_states() == ["completed"]
        assert nights.tickets.query("SELECT id FROM labels ORDER BY id") == [(1,), (3,)]
